"""Arithmetic and changes of shape that do nothing, or that one operator does as well as two.

Every rule is exact: NaN, infinities and the sign of zero come out as before. (Which of 0.0 and -0.0
is the larger is not said by `maximum`, nor by `relu`; nor in which order a mean or a product is
summed.)
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np

from noria.core.dims import symbols_of
from noria.core.dtypes import is_float, is_integer, to_numpy
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Spec
from noria.ops import adaptive_pool
from noria.passes.pattern import ANY
from noria.passes.rule import Match, Rule, rewrite
from noria.passes.spread_masks import MASKS

QUIET = ""  # a reason that nobody wants to read

VIEWS = {"reshape": "shape", "squeeze": "axis", "unsqueeze": "axis", "flatten": ""}


def simplify(program: Program) -> Program:
    """What changes nothing goes; two changes of shape, or casts, in a row become one.

    It comes before what looks for operators side by side, so that nothing idle stands between, and
    after gradients: `stop_gradient` means nothing any more.

    Given:
        program p {
          input x: float32[N, 6]
          fill: float32[] = fill(shape=(), value=1.0)
          mul: float32[N, 6] = mul(x, fill)
          neg: float32[N, 6] = neg(mul)
          neg_1: float32[N, 6] = neg(neg)
          reshape: float32[6*N] = reshape(neg_1, shape=[6*N])
          reshape_1: float32[2*N, 3] = reshape(reshape, shape=[2*N, 3])
          output y = reshape_1
        }
    Result:
        program p {
          input x: float32[N, 6]
          reshape: float32[2*N, 3] = reshape(x, shape=[2*N, 3])
          output y = reshape
        }

    Given:
        program p {
          input g: float32[N, 4, 8, 8]
          fill: float32[] = fill(shape=(), value=8.0)
          div: float32[N, 4, 8, 8] = div(g, fill)
          sum_to: float32[4, 1, 1] = sum_to(div, shape=(4, 1, 1))
          output y = sum_to
        }
    Result:
        program p {
          input g: float32[N, 4, 8, 8]
          fill: float32[] = fill(shape=(), value=0.125)
          mul: float32[N, 4, 8, 8] = mul(g, fill)
          reduce_sum: float32[4] = reduce_sum(mul, axis=(0, 2, 3))
          reshape: float32[4, 1, 1] = reshape(reduce_sum, shape=(4, 1, 1))
          output y = reshape
        }
    """
    return rewrite(program, RULES, "simplify")


def _same(m: Match) -> str | None:
    """The result is x in dtype and shape."""
    x, out = m["x"], m.operator.outputs[0]
    if x.dtype != out.dtype:
        return f"{x.name} is {x.dtype}, the result {out.dtype}"
    return None if x.shape == out.shape else f"{x.name} is broadcast"


def _same_quietly(m: Match) -> str | None:
    return None if _same(m) is None else QUIET


def _x(x: Any) -> Any:
    return x


# ---- arithmetic --------------------------------------------------------------------------------


def _zero_has_no_sign(m: Match) -> str | None:
    if is_float(m["x"].dtype):
        return f"{m['x'].name} + 0.0 is 0.0 where it is -0.0"
    return _same(m)


def _power_of_two(m: Match) -> str | None:
    """Then the reciprocal is exact, and so is multiplying by it."""
    number = m.number("y")
    if number is None or not is_float(m["x"].dtype):
        return QUIET
    if math.frexp(abs(number))[0] != 0.5 or not 2**-14 <= abs(number) <= 2**14:
        return f"1 / {number} is not exact"
    return _same(m)


def _column_by_row(m: Match) -> str | None:
    """Then nothing is summed."""
    if m["x"].ndim != 2 or m["y"].ndim != 2 or m["x"].shape[1] != 1:
        return QUIET
    return None if m["x"].shape[0] != 1 or m["y"].shape[1] != 1 else QUIET


def _column_by_matrix(m: Match) -> str | None:
    """Then it is a sum of rows, each with a factor, and loops can take part in it."""
    x, y = m["x"], m["y"]
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != 1 or y.shape[1] == 1:
        return QUIET
    wide = ("float32", "float64")
    return None if x.dtype in wide and y.dtype in wide else f"sums of {x.dtype} would be rounded"


def _sum_of_rows(x: Any, y: Any) -> Any:
    return o.unsqueeze(o.reduce_sum(o.mul(x, y), axis=0), axis=(0,))


def _times_reciprocal(x: Any, match: Match) -> Any:
    return o.mul(x, 1.0 / float(match.number("y") or 1))


ARITHMETIC = [
    Rule(lambda x: o.mul(x, 1), _same, _x, "x * 1"),
    Rule(lambda x: o.div(x, 1), _same, _x, "x / 1"),
    Rule(lambda x: o.pow(x, 1), _same, _x, "x ** 1"),
    Rule(lambda x: o.sub(x, 0), _same, _x, "x - 0"),
    Rule(lambda x: o.add(x, -0.0), _same, _x, "x + -0.0"),
    Rule(lambda x: o.add(x, 0), _zero_has_no_sign, _x, "x + 0"),
    Rule(lambda x: o.neg(o.neg(x)), None, _x, "- -x", shared=True),
    Rule(lambda x: o.logical_not(o.logical_not(x)), None, _x, "not not x", shared=True),
    Rule(lambda x, y: o.add(x, o.neg(y)), None, lambda x, y: o.sub(x, y), "x + -y", shared=True),
    Rule(lambda x, y: o.sub(x, o.neg(y)), None, lambda x, y: o.add(x, y), "x - -y", shared=True),
    Rule(lambda x: o.pow(x, 2), _same, lambda x: o.square(x), "x ** 2"),
    Rule(lambda x: o.maximum(x, 0), _same, lambda x: o.relu(x), "max(x, 0)"),
    Rule(lambda x, y: o.div(x, y), _power_of_two, _times_reciprocal, "x / 2^k"),
    Rule(lambda x, y: o.matmul(x, y), _column_by_row, lambda x, y: o.mul(x, y), "column by row"),
    Rule(
        lambda x, y: o.matmul(x, y, transpose_x=True),
        _column_by_matrix,
        _sum_of_rows,
        "column by matrix",
    ),
]

# ---- dtypes ------------------------------------------------------------------------------------


def _holds(wide: str, narrow: str) -> bool:
    """Whether every number of one dtype has its place in the other."""
    kinds = [(is_float(d), is_integer(d)) for d in (wide, narrow)]
    alike = kinds[0] == kinds[1] or narrow == "bool"
    return alike and bool(np.can_cast(to_numpy(narrow), to_numpy(wide)))


def _nothing_lost(m: Match) -> str | None:
    between = m.operators[1].outputs[0].dtype
    if _holds(between, m["x"].dtype):
        return None
    return f"{between} does not hold every {m['x'].dtype}"


def _cast(x: Any, dtype: str) -> Any:
    return x if x.dtype == dtype else o.cast(x, dtype=dtype)


CASTS = [
    Rule(lambda x: o.cast(x, dtype=ANY), _same_quietly, _x, "cast to the same dtype"),
    Rule(
        lambda x, *, dtype: o.cast(o.cast(x, dtype=ANY), dtype=dtype),
        _nothing_lost,
        _cast,
        "cast of a cast",
        shared=True,
    ),
]

# ---- shapes ------------------------------------------------------------------------------------


def _viewed(name: str, x: Any) -> Any:
    """A view op, whatever its attributes."""
    if name == "flatten":
        return o.flatten(x, start=ANY, end=ANY)
    return lookup(name)(x, **{VIEWS[name]: ANY})


def _unchanged(name: str) -> Rule:
    def pattern(x: Any) -> Any:
        if name in VIEWS:
            return _viewed(name, x)
        return lookup(name)(x, shape=ANY)

    return Rule(pattern, _same_quietly, _x, f"{name} to the same shape")


def _merged(outer: str, inner: str) -> Rule:
    def pattern(x: Any) -> Any:
        return _viewed(outer, _viewed(inner, x))

    return Rule(pattern, None, _reshaped, f"{outer} of {inner}", shared=True)


def _reshaped(x: Any, match: Match) -> Any:
    shape = match.operator.outputs[0].shape
    return x if x.shape == shape else o.reshape(x, shape=shape)


def _broadcast(x: Any, *, shape: Any) -> Any:
    return o.broadcast_to(x, shape=shape)


def order_of(perm: tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The permutation of a transpose, written out and non-negative."""
    return tuple(reversed(range(ndim))) if perm is None else tuple(a % ndim for a in perm)


def _in_order(m: Match) -> str | None:
    ndim = m["x"].ndim
    return None if order_of(m["perm"], ndim) == tuple(range(ndim)) else QUIET


def _transposed(x: Any, outer: Any, inner: Any) -> Any:
    first, second = order_of(inner, x.ndim), order_of(outer, x.ndim)
    perm = tuple(first[a] for a in second)
    return x if perm == tuple(range(x.ndim)) else o.transpose(x, perm=perm)


def summed_axes(x: Spec, shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The axes along which `sum_to` sums."""
    lead = x.ndim - len(shape)
    stretched = (lead + i for i, d in enumerate(shape) if d == 1 and x.shape[lead + i] != 1)
    return (*range(lead), *stretched)


def _sums_floats(m: Match) -> str | None:
    return None if is_float(m["x"].dtype) else "reduce_sum of integers is int64"


def _reduced(x: Any, shape: Any, match: Match) -> Any:
    axes = summed_axes(x, shape)
    out = o.reduce_sum(x, axis=axes) if axes else x
    return out if out.shape == tuple(shape) else o.reshape(out, shape=shape)


def _whole(m: Match) -> str | None:
    """Is one mean taken over all of each image, whose size is known?"""
    space = m["x"].shape[2:] if "x" in m.bound else m["sizes"]
    means = m["size"] if "x" in m.bound else m["grad"].shape[2:]
    whole = all(d == 1 for d in (means if isinstance(means, tuple) else (means,)))
    return None if whole and all(isinstance(d, int) and d > 0 for d in space) else QUIET


def _mean(x: Any) -> Any:
    return o.reduce_mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)


def _spread(grad: Any, sizes: Any) -> Any:
    shared = o.mul(grad, 1.0 / math.prod(sizes))
    return o.broadcast_to(shared, shape=(*grad.shape[:2], *sizes))


def _means(n: int) -> list[Rule]:
    """Global pooling is a mean, which loops can take part in."""
    pool = getattr(adaptive_pool, f"adaptive_avg_pool{n}d")
    gradient = getattr(adaptive_pool, f"adaptive_avg_pool{n}d_grad")
    return [
        Rule(lambda x, *, size: pool(x, size=size), _whole, _mean, "global mean"),
        Rule(
            lambda grad, *, sizes: gradient(grad, sizes=sizes),
            _whole,
            _spread,
            "gradient of a global mean",
        ),
    ]


# ---- parts -------------------------------------------------------------------------------------


def _some_unused(m: Match) -> str | None:
    return None if not all(m.used()) else QUIET


def _used_parts(x: Any, match: Match) -> list[Any]:
    """A slice for each part that is used, None for the others."""
    axis = match.operator.attrs["axis"] % x.ndim
    stops = list(accumulate(v.shape[axis] for v in match.operator.outputs))
    return [
        o.slice(x, axes=(axis,), starts=(stop - v.shape[axis],), stops=(stop,)) if used else None
        for v, stop, used in zip(match.operator.outputs, stops, match.used(), strict=True)
    ]


def _columns(m: Match) -> str | None:
    """Are they columns of a product with a matrix that is the smaller operand?"""
    x, y = m["x"], m["y"]
    if y.ndim != 2 or x.ndim < 2 or tuple(a % x.ndim for a in m["axes"]) != (x.ndim - 1,):
        return QUIET
    rows = math.prod(d for d in x.shape[:-1] if isinstance(d, int))
    few = not symbols_of(x.shape[:-1]) and rows < y.shape[0]
    return f"{y.name} is larger than {x.name}" if few else None


def _product_of_columns(x: Any, y: Any, starts: Any, stops: Any, steps: Any, match: Match) -> Any:
    product = match.of("matmul").attrs
    axis = 0 if product["transpose_y"] else 1
    part = o.slice(y, axes=(axis,), starts=starts, stops=stops, steps=steps)
    return o.matmul(x, part, **product)


def _columns_of_product(turned: bool) -> Rule:
    def pattern(x: Any, y: Any, *, axes: Any, starts: Any, stops: Any, steps: Any) -> Any:
        whole = o.matmul(x, y, transpose_y=turned)
        return o.slice(whole, axes=axes, starts=starts, stops=stops, steps=steps)

    return Rule(pattern, _columns, _product_of_columns, "columns of a product")


PARTS = [
    Rule(
        lambda x: o.split(x, num=ANY, sizes=ANY, axis=ANY),
        _some_unused,
        _used_parts,
        "parts that nobody wants",
    ),
    _columns_of_product(False),
    _columns_of_product(True),
]

SHAPES = [
    *(rule for n in (1, 2, 3) for rule in _means(n)),
    *(_unchanged(name) for name in (*VIEWS, "broadcast_to")),
    *(_merged(outer, inner) for outer in VIEWS for inner in VIEWS),
    Rule(
        lambda x, *, shape: o.broadcast_to(o.broadcast_to(x, shape=ANY), shape=shape),
        None,
        _broadcast,
        "broadcast_to of broadcast_to",
        shared=True,
    ),
    Rule(lambda x, *, perm: o.transpose(x, perm=perm), _in_order, _x, "transpose in order"),
    Rule(
        lambda x, *, outer, inner: o.transpose(o.transpose(x, perm=inner), perm=outer),
        None,
        _transposed,
        "transpose of transpose",
        shared=True,
    ),
    Rule(lambda x, *, shape: o.sum_to(x, shape=shape), _sums_floats, _reduced, "sum_to"),
    Rule(lambda x: o.identity(x), None, _x, "identity"),
    Rule(lambda x: o.stop_gradient(x), None, _x, "stop_gradient"),
]

RULES = ARITHMETIC + CASTS + PARTS + SHAPES + MASKS
