"""Pickles taken apart, not run."""

import io
import os
import pickle
from collections import OrderedDict

import pytest

from noria.convert.torch_pickle import Storage, load
from noria.core.errors import FormatError


def read(data):
    return load(io.BytesIO(data), "test", lambda key: Storage("0", "float32", 4))


@pytest.mark.parametrize("protocol", range(5))
def test_plain_data_of_every_protocol(protocol):
    data = {"a": [1, -2, 2**40, 1.5], "b": (None, True, False, "ä"), 3: {"x": ()}}
    data["again"] = data["a"]
    assert read(pickle.dumps(data, protocol)) == data
    ordered = OrderedDict([("one", 1), ("two", 2)])
    assert list(read(pickle.dumps(ordered, protocol)).items()) == list(ordered.items())


class Command:
    def __reduce__(self):
        return os.system, ("echo never",)


@pytest.mark.parametrize(
    "value, name",
    [
        (Command(), "system"),
        (eval, "eval"),
        ({"x": [Command]}, "Command"),
        (slice(1), "slice"),
    ],
)
def test_whatever_else_is_refused_with_its_name(value, name, capfd):
    with pytest.raises(FormatError, match=f"asks for '.*{name}'"):
        read(pickle.dumps(value, 4))
    assert "never" not in capfd.readouterr().out


def test_torch_has_names_that_are_refused():
    with pytest.raises(FormatError, match=r"asks for 'torch.load'"):
        read(b"\x80\x02ctorch\nload\n.")


@pytest.mark.parametrize("end", range(0, 60))
def test_a_pickle_cut_off_anywhere_is_an_error(end):
    data = pickle.dumps({"name": [1, 2.5, ("x", None)], "other": OrderedDict(a=1)}, 2)
    if end < len(data):
        with pytest.raises(FormatError):
            read(data[:end])


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02.",  # nothing to give
        b"\x80\x02s.",  # an item of nothing
        b"\x80\x02}]K\x01s.",  # a list as a key
        b"\x80\x02}K\x01u.",  # no mark
        b"\x80\x02h\x07.",  # nothing in the memo
        b"\x80\x02K\x01K\x02R.",  # an integer is called
        b"\x80\x02X\xff\xff\xff\x7fab.",  # a length that lies
        b"\x80\x02}(K\x01u.",  # a key without a value
        b"\x80\x09N.",  # a version to come
        b"\x80\x02ctorch\nFloatStorage\n)R.",  # a type is called
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00)))tR.",  # of no storage
    ],
)
def test_damaged_pickles_are_errors(data):
    with pytest.raises(FormatError):
        read(data)


def test_items_copied_again_and_again_are_refused():
    items = b"(" + b"K\x01K\x02\x86" * 3000 + b"l"  # a list of 3000 pairs
    call = b"ccollections\nOrderedDict\nh\x00\x85R0"
    data = b"\x80\x02" + items + b"q\x00" + call * 5000 + b"N."
    with pytest.raises(FormatError, match="damaged"):
        read(data)
