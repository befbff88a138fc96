import numpy as np
import pytest

import noria.ops.bitwise as bitwise
from noria.core.errors import DTypeError, ShapeError
from noria.ir.opdef import OpDef
from noria.testing.case import Case, ints
from noria.testing.check import check_case

KINDS = ("int8", "uint8", "int32", "uint16", "int64", "uint64")


def each(fn):
    """A function of Python's integers, element by element; what overflows wraps around."""

    def apply(*arrays):
        dtype = arrays[0].dtype
        bits = 8 * dtype.itemsize
        wide = np.vectorize(lambda *a: fn(*map(int, a)) % (1 << bits), otypes=[np.uint64])
        return wide(*arrays).astype(f"uint{bits}").view(dtype)

    return apply


def pairs(name, fn):
    made = [
        Case(
            name,
            [ints(2, 5, low=0, high=100, dtype=k), ints(5, low=0, high=100, dtype=k)],
            expect=each(fn),
            symbolic={0: {0: "N"}},
        )
        for k in KINDS
    ]
    logic = [ints(9, high=2, dtype="bool"), ints(9, high=2, dtype="bool")]
    return [*made, Case(name, logic, expect=fn), Case(name, [ints(0, 2), ints(2)])]


def shifts(name, fn):
    made = []
    for k in KINDS:
        top = np.iinfo(k).max
        steps = ints(2, 6, low=0, high=np.iinfo(k).bits - 1, dtype=k)
        low = 0 if k.startswith("u") else -top // 2

        x = ints(2, 6, low=low, high=min(top, 1 << 62), dtype=k)
        wide = {"jax": False} if k.endswith("64") else {}  # it computes in 32 bits
        made.append(Case(name, [x, steps], expect=each(fn), **wide))
    return [*made, Case(name, [ints(3, 2), ints(2, high=5)], symbolic={0: {0: "N"}})]


def packed(x):
    """Bytes of 8 along axis 1."""
    full = np.zeros((len(x), -(-x.shape[1] // 8) * 8, x.shape[2]), int)
    full[:, : x.shape[1]] = x
    parts = full.reshape(len(x), -1, 8, x.shape[2])
    return (parts * 2 ** np.arange(8)[:, None]).sum(2)


def unpacked(x, size):
    return np.stack([x[:, k // 8] >> k % 8 & 1 for k in range(size)], axis=1)


CASES = [
    *pairs("bitwise_and", lambda x, y: x & y),
    *pairs("bitwise_or", lambda x, y: x | y),
    *pairs("bitwise_xor", lambda x, y: x ^ y),
    *(Case("bitwise_not", [ints(7, high=99, dtype=k)], expect=np.invert) for k in KINDS),
    Case("bitwise_not", [ints(7, high=2, dtype="bool")], expect=np.logical_not),
    *shifts("shift_left", lambda x, y: x << y),
    *shifts("shift_right", lambda x, y: x >> y),
    Case("shift_left", [np.array([1, -1, 5, 5]), np.array([64, 70, -1, 2])],
         expect=lambda x, y: np.array([0, 0, 0, 20])),
    Case("shift_right", [np.array([1, -1, 5, -5]), np.array([64, 70, -1, -2])],
         expect=lambda x, y: np.array([0, -1, 0, -1])),
    Case("bitcast", [ints(3, 4, low=-90, high=90, dtype="int8")], {"dtype": "uint8"},
         expect=lambda x: x.astype(int) % 256, symbolic={0: {0: "N"}}),
    Case("bitcast", [np.array([1.0, -2.0], np.float32)], {"dtype": "int32"},
         expect=lambda x: np.array([0x3F800000, -0x40000000])),
    Case("bitcast", [ints(2, 4, low=1, high=99, dtype="uint8")], {"dtype": "int32"},
         expect=lambda x: x.astype(int) @ 256 ** np.arange(4)),
    Case("bitcast", [ints(2, high=1 << 30, dtype="int32")], {"dtype": "uint8"},
         expect=lambda x: x[:, None] >> np.arange(0, 32, 8) & 255),
    Case("bitcast", [np.array([0x3FF0 << 48, 0], np.int64)], {"dtype": "float64"},
         expect=lambda x: np.array([1.0, 0.0]), jax=False),
    *(Case("pack_bits", [ints(3, n, 4, high=2, dtype="bool")], {"axis": 1}, expect=packed,
           symbolic={0: {0: "N", 2: "T"}}) for n in (1, 3, 7, 8, 17)),
    Case("pack_bits", [ints(2, 9, high=2, dtype="bool")],
         expect=lambda x: packed(x[..., None])[..., 0], symbolic={0: {1: "T"}}),
    *(Case("unpack_bits", [ints(3, -(-n // 8), 4, high=256, dtype="uint8")],
           {"axis": -2, "size": n}, expect=lambda x, n=n: unpacked(x, n),
           symbolic={0: {0: "N"}}) for n in (1, 3, 7, 8, 17)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(bitwise).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


def test_narrow_parts_make_the_number_again():
    x = np.array([1.5, -2.0], np.float32)
    parts = bitwise.bitcast(x, dtype="uint8")
    assert parts.shape == (2, 4) and np.array_equal(bitwise.bitcast(parts, dtype="float32"), x)
    assert bitwise.bitcast(parts[:0], dtype="float32").shape == (0,)


def test_what_makes_no_number_is_refused():
    with pytest.raises(ShapeError, match="make one number"):
        bitwise.bitcast(np.ones(3, np.float32), dtype="int64")
    with pytest.raises(DTypeError):
        bitwise.bitcast(np.zeros(2, bool), dtype="uint8")


def test_bits_come_back_as_they_were():
    x = np.arange(26).reshape(2, 13) % 3 > 0
    for axis in (0, 1, -1):
        bits = bitwise.pack_bits(x, axis=axis)
        assert np.array_equal(bitwise.unpack_bits(bits, size=x.shape[axis], axis=axis), x)


def test_bytes_that_are_not_those_of_so_many_bits_are_refused():
    with pytest.raises(DTypeError, match="made of booleans"):
        bitwise.pack_bits(np.ones(8, np.uint8))
    with pytest.raises(DTypeError, match="from bytes"):
        bitwise.unpack_bits(np.ones(8, np.int32), size=64)
    with pytest.raises(ShapeError, match="must be equal"):
        bitwise.unpack_bits(np.ones(2, np.uint8), size=17)


def test_floats_have_no_bits_to_combine():
    with pytest.raises(DTypeError, match="integers"):
        bitwise.bitwise_and(np.ones(2, np.float32), np.ones(2, np.float32))
    with pytest.raises(DTypeError):
        bitwise.shift_left(np.ones(2, bool), np.ones(2, bool))
