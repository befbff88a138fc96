import ctypes
import gc
import re

import numpy as np
import pytest

from noria.core.errors import EngineError
from noria.kernels.onednn import lib
from noria.kernels.onednn.build_dense import matmul
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc, canonical, row_major


def blocked():
    """A blocked descriptor, as oneDNN chooses it for the weights of a product."""
    a, b = MemDesc((32, 40), "float32"), MemDesc.any((40, 64), "float32")
    chosen = matmul(a, b, MemDesc((32, 64), "float32")).descs[ARG.WEIGHTS]
    if chosen.strides is not None:
        pytest.skip("this CPU takes plain weights")
    return chosen


def test_strides_are_row_major_unless_given():
    d = MemDesc((2, 3, 4), "float32")
    assert d.strides == (12, 4, 1) == row_major((2, 3, 4))
    assert d.is_dense and not d.is_any
    assert d.nbytes == 96


def test_channels_last_puts_the_channel_innermost():
    d = MemDesc.channels_last((2, 3, 5, 7), "bfloat16")
    assert d.strides == (105, 1, 21, 3)
    assert d.is_channels_last and not MemDesc((2, 3, 5, 7), "bfloat16").is_channels_last
    assert d.nbytes == 2 * 3 * 5 * 7 * 2
    assert MemDesc.channels_last((4, 3), "float32").strides == (3, 1)
    with pytest.raises(EngineError, match="channels-last"):
        MemDesc.channels_last((4,), "float32")


def test_the_c_side_reads_back_the_same():
    for d in (
        MemDesc((2, 3), "int8"),
        MemDesc((2, 3), "float32", (1, 2)),
        MemDesc.channels_last((2, 3, 4, 5), "uint8"),
        MemDesc((7,), "float16"),
        MemDesc((2, 3), "int32", (8, 1)),
        MemDesc.any((2, 3), "bfloat16"),
    ):
        back = MemDesc.adopt(lib.library(), d.handle)
        assert (back.dims, back.dtype, back.is_any) == (d.dims, d.dtype, d.is_any)
        assert back.strides == d.strides
        assert back == d and hash(back) == hash(d)


def test_a_gap_between_rows_counts_in_bytes_and_is_not_dense():
    d = MemDesc((2, 3), "float32", (8, 1))
    assert not d.is_dense
    assert d.nbytes == (8 + 3) * 4


def test_a_transposed_layout_is_dense():
    assert MemDesc((2, 3), "float32", (1, 2)).is_dense


def test_equal_descriptors_are_equal_keys():
    a, b = MemDesc((2, 3), "float32"), MemDesc([np.int64(2), 3], "float32", [3, 1])
    assert a == b and hash(a) == hash(b) and {a: 1}[b] == 1
    assert a != MemDesc((2, 3), "int32")
    assert a != MemDesc((3, 2), "float32")
    assert a != MemDesc((2, 3), "float32", (1, 2))
    assert a != MemDesc.any((2, 3), "float32")
    assert MemDesc.any((2, 3), "float32") == MemDesc.any((2, 3), "float32")
    assert a != (2, 3)


def test_strides_of_dims_of_size_1_do_not_matter():
    a, b = MemDesc((4, 1, 5), "float32", (5, 999, 1)), MemDesc((4, 1, 5), "float32", (5, 1, 1))
    assert a == b and a.strides == b.strides == (5, 5, 1)
    assert a.lies_like(b)
    assert canonical((1, 3, 1), (0, 2, 0)) == (6, 2, 1)


def test_layouts_compare_across_dtypes():
    a, b = MemDesc((2, 3), "float32"), MemDesc((2, 3), "bfloat16")
    assert a.lies_like(b) and a != b
    assert not a.lies_like(MemDesc((2, 3), "bfloat16", (1, 2)))
    assert not a.lies_like(MemDesc((3, 2), "float32"))
    assert not a.lies_like(MemDesc.any((2, 3), "float32"))


def test_a_blocked_layout_is_not_plain_and_has_its_own_bytes():
    d = blocked()
    assert d.strides is None and not d.is_any and d.is_dense
    assert d.nbytes >= 40 * 64 * 4
    again = MemDesc.adopt(lib.library(), d.handle)
    assert again == d and hash(again) == hash(d) and again.lies_like(d)
    assert d != MemDesc((40, 64), "float32")
    assert not d.lies_like(MemDesc((40, 64), "float32"))
    assert re.fullmatch(r"float32\[40, 64\]:[abAB]{2}(\d+[ab])+", repr(d))


def test_a_descriptor_prints_what_it_is():
    assert repr(MemDesc((2, 3), "int8")) == "int8[2, 3]"
    assert repr(MemDesc((2, 3), "int8", (1, 2))) == "int8[2, 3]:(1, 2)"
    assert repr(MemDesc.any((2, 3), "int8")) == "int8[2, 3]:any"


def test_the_bytes_of_an_open_layout_are_not_known():
    with pytest.raises(EngineError, match="not chosen"):
        _ = MemDesc.any((2, 3), "float32").nbytes


@pytest.mark.parametrize(
    ("dims", "dtype", "strides", "message"),
    [
        ((), "float32", None, "rank"),
        ((1,) * 13, "float32", None, "rank"),
        ((2, 0), "float32", None, "dims"),
        ((2, -1), "float32", None, "dims"),
        ((2**40, 2**40), "float32", None, "dims"),
        ((2, 3), "bool", None, "dtype"),
        ((2, 3), "float99", None, "dtype"),
        ((2, 3), "float32", (3,), "stride per dim"),
        ((2, 3), "float32", (0, 1), "positive"),
        ((2, 3), "float32", (-3, 1), "positive"),
        ((2, 3), "float32", (2**60, 1), "positive"),
    ],
)
def test_what_onednn_cannot_hold_is_refused(dims, dtype, strides, message):
    with pytest.raises(EngineError, match=message):
        MemDesc(dims, dtype, strides)


def test_overlapping_elements_are_refused_when_the_c_side_is_made():
    with pytest.raises(EngineError, match="invalid arguments"):
        _ = MemDesc((4, 3), "float32", (2, 1)).handle


def test_dims_are_integers():
    with pytest.raises(TypeError):
        MemDesc((2.5, 3), "float32")


def test_a_descriptor_goes_where_c_wants_one():
    c = lib.library().c
    d = MemDesc((2, 3), "float32")
    assert c.dnnl_memory_desc_equal(d, MemDesc((2, 3), "float32"))
    assert c.dnnl_memory_desc_get_size(d) == 24


def test_the_c_side_is_destroyed_once(monkeypatch):
    d = MemDesc((2, 3), "float32")
    address, gone = d.handle, []
    destroy = d._handle._destroy
    d._handle._destroy = lambda value: gone.append(value) or destroy(ctypes.c_void_p(value))
    del d
    gc.collect()
    assert gone == [address]


def test_the_text_of_a_blocked_layout_and_none_of_a_plain_one():
    assert MemDesc((2, 3), "float32").blocks is None
    text = blocked().blocks
    assert re.fullmatch(r"[abAB]+(\d+[ab])+", text) and text in repr(blocked())
