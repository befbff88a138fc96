import ctypes

import pytest

from noria.core.errors import EngineError
from noria.kernels.call import Call, run

Native = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_int64] * 4)


def native_call(function, args=(1, 2, 3, 4)):
    callback = Native(function)
    return Call("probe", ctypes.cast(callback, ctypes.c_void_p).value, args, callback)


def test_a_call_passes_four_64_bit_arguments_in_order():
    seen = []
    run(native_call(lambda *args: seen.append(args) or 0, (1, -2, 2**40, 4)))
    assert seen == [(1, -2, 2**40, 4)]


def test_a_status_other_than_0_raises_and_names_the_call():
    with pytest.raises(EngineError, match=r"probe failed[\s\S]*status 3"):
        run(native_call(lambda *args: 3))


def test_what_a_call_keeps_lives_as_long_as_the_call():
    class Marker:
        gone = False

        def __del__(self):
            Marker.gone = True

    call = Call("probe", 0, (0, 0, 0, 0), Marker())
    assert not Marker.gone
    del call
    assert Marker.gone
