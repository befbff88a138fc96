"""Philox 4x32-10 (see `ops/philox.py`) in native code, and what random ops make of its words.

Uniform, Bernoulli, dropout and integers are those of the reference to the last bit; normals differ
from it as far as logarithms and cosines do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import float_bits, launch, need
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register
from noria.ops.philox import CENTRAL, MULTIPLIERS, ROUNDS, WEYL

# ---- words -------------------------------------------------------------------------------------

_ROUND = f"""
p0 = x0 * uint64({MULTIPLIERS[0]:#x})
p1 = x2 * uint64({MULTIPLIERS[1]:#x})
x0 = (p1 >> uint64(32)) ^ x1 ^ k0
x2 = (p0 >> uint64(32)) ^ x3 ^ k1
x1 = p1 & low
x3 = p0 & low
k0 = (k0 + uint64({WEYL[0]:#x})) & low
k1 = (k1 + uint64({WEYL[1]:#x})) & low"""
_BLOCK = "x0 = uint64(block)\nx1 = uint64(0)\nx2 = lane\nx3 = high\nk0 = key0\nk1 = key1"
_WORDS = _BLOCK + ROUNDS * _ROUND

# Table: key, three arrays, how many elements, stream, two numbers. A thread has whole blocks of
# four elements; the last block may have fewer.
_DRAW = """
def draw(args):
    key = load_int64(args, 0)
    a = load_int64(args, 1)
    b = load_int64(args, 2)
    c = load_int64(args, 3)
    count = load_int64(args, 4)
    lane = uint64(load_int64(args, 5))
    high = uint64(load_int64(args, 6))
    first = load_NUMBER(args, 7)
    second = load_NUMBER(args, 8)
    low = uint64(0xFFFFFFFF)
    key0 = uint64(load_int64(key, 0)) & low
    key1 = uint64(load_int64(key, 1)) & low
    team = team_size()
    blocks = (count + 3) // 4
    begin = blocks * thread_id() // team
    end = blocks * (thread_id() + 1) // team
    whole = min(end, count // 4)
    for block in range(begin, whole):
        independent()
{words}
        i = block * 4
{write}
    for block in range(max(begin, whole), end):
{words}
        i = block * 4
        if i < count:
{write0}
        if i + 1 < count:
{write1}
        if i + 2 < count:
{write2}
    return 0
"""

# ---- distributions -----------------------------------------------------------------------------

_UNIT = f"unit = float32(int32(WORD >> uint64(8))) * float32({2**-24!r})"
_PUT = "store_float32(a, AT, "
# fma(x, y, 0) is the product, rounded: x * y + z would be rounded once only, unlike the reference.
_SCALED = ", float32(first), float32(0)) + float32(second))"


def _normal(k: int) -> str:
    """Of words 2 j and 2 j + 1; converted by halves, for which the CPU has vectors."""

    def number(word: str) -> str:
        parts = f"int32({word} >> uint64(16))", f"int32({word} & uint64(0xFFFF))"
        return f"(float32({parts[0]}) * float32(65536) + float32({parts[1]}))"

    pair, scale = (f"x{k // 2 * 2}", f"x{k // 2 * 2 + 1}"), f"float32({2**-32!r})"
    wave = "sin" if k % 2 else "cos"
    return "\n".join(
        (
            f"u = ({number(pair[0])} + float32(0.5)) * {scale}",
            "radius = sqrt(float32(-2) * log(u))",
            f"angle = {number(pair[1])} * {scale} * float32({2 * math.pi!r})",
            f"{_PUT}fma(radius * {wave}(angle){_SCALED}",
        )
    )


def _truncated(k: int) -> str:
    lines = [
        _UNIT,
        f"x = (float32(2) * unit - float32(1)) * float32({math.erf(math.sqrt(2))!r})",
        "w = -log((float32(1) - x) * (float32(1) + x)) - float32(2.5)",
        f"z = float32({CENTRAL[0]!r})",
        *(f"z = z * w + float32({c!r})" for c in CENTRAL[1:]),
        f"z = minimum(maximum(z * x * float32({math.sqrt(2)!r}), float32(-2)), float32(2))",
        f"{_PUT}fma(z{_SCALED}",
    ]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Distribution:
    """How an op makes elements of words.

    write:   k -> lines that store element number k of a block, at AT, from words x0 to x3, of which
             xk is also WORD; `a` is the output, OUT its dtype
    numbers: what the lines know as `first` and `second`, from the attributes
    dtypes:  of outputs it can write
    number:  dtype of the two numbers
    """

    write: Callable[[int], str]
    numbers: Callable[[Mapping[str, Any]], tuple[float, float]]
    dtypes: tuple[str, ...] = ("float32",)
    number: str = "float64"


def _same(lines: str) -> Callable[[int], str]:
    return lambda k: lines


_DROPOUT = f"""{_UNIT}
kept = unit >= float32(first)
store_bool(c, AT, kept)
store_float32(b, AT, where(kept, load_float32(a, AT) / float32(second), float32(0)))"""

_DISTRIBUTIONS = {
    "uniform": Distribution(
        _same(f"{_UNIT}\n{_PUT}fma(unit{_SCALED}"),
        lambda how: (how["high"] - how["low"], how["low"]),
    ),
    "bernoulli": Distribution(
        _same(f"{_UNIT}\nstore_bool(a, AT, unit < float32(first))"),
        lambda how: (how["p"], 0.0),
        ("bool",),
    ),
    "normal": Distribution(_normal, lambda how: (how["std"], how["mean"])),
    "truncated_normal": Distribution(_truncated, lambda how: (how["std"], how["mean"])),
    "randint": Distribution(
        _same("store_OUT(a, AT, int64((WORD * uint64(first)) >> uint64(32)) + second)"),
        lambda how: (how["high"] - how["low"], how["low"]),
        ("int64", "int32"),
        "int64",
    ),
    "dropout": Distribution(_same(_DROPOUT), lambda how: (how["p"], 1 - how["p"])),
}


def source(kind: str, dtype: str) -> str:
    """The kernel of one distribution with an output of this dtype."""
    distribution = _DISTRIBUTIONS[kind]

    def write(k: int, spaces: int) -> str:
        lines = distribution.write(k).replace("WORD", f"x{k}").replace("AT", f"i + {k}")
        return _indented(lines, spaces)

    one_by_one = {f"write{k}": write(k, 12) for k in range(3)}
    every = "\n".join(write(k, 8) for k in range(4))
    text = _DRAW.format(words=_indented(_WORDS, 8), write=every, **one_by_one)
    return text.replace("NUMBER", distribution.number).replace("OUT", dtype)


def _indented(lines: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in lines.split("\n"))


# ---- kernel ------------------------------------------------------------------------------------


class Random(Kernel):
    name = "numba:random"
    ops = tuple(_DISTRIBUTIONS)

    def accepts(self, op: Operator) -> None:
        wanted, got = _DISTRIBUTIONS[op.type].dtypes, op.outputs[0].dtype
        if got not in wanted:
            raise Declined(f"the output is {got}, not {' or '.join(wanted)}")
        if op.type == "dropout":
            need(op, ("float32",), (0,))

    def bind(self, bound: BoundOp) -> Prepared:
        kind, count, threads = bound.op.type, bound.outputs[0].size, bound.threads
        distribution = _DISTRIBUTIONS[kind]
        text = source(kind, bound.outputs[0].dtype)
        stream = int(bound.attrs["stream"])
        end = [count, stream & 0xFFFFFFFF, (stream >> 32) & 0xFFFFFFFF]
        numbers = distribution.numbers(bound.attrs)
        whole = distribution.number == "int64"
        end += [int(x) if whole else float_bits(float(x)) for x in numbers]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            start = [ins[1], ins[0], *outs] if kind == "dropout" else [ins[0], outs[0], 0, 0]
            size = {"bytes": 9 * count, "ops": 40 * count}
            return [launch(self.name, text, "draw", [*start, *end], threads=threads, **size)]

        return Prepared(emit, in_place=((0, 0),) if kind == "dropout" else ())


register(Random())
