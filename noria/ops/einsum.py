"""Sums of products by a formula: `einsum("bij,bjk->bik", x, y)`, in products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.core.dims import Size, product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import require_equal, shaped
from noria.ops.numeric import cast_like


def einsum(formula: str, *xs: Any) -> Any:
    """The sum over all letters that are not in the result, of the products of the operands.

    formula: one letter an axis, operands separated by commas; what follows `->` are the axes of the
    result, by default the letters that occur once, sorted. `...` stands for further axes, which are
    broadcast. A letter twice in one operand takes its diagonal. Sizes of one letter are equal.
    Operands are combined from left to right, each time by one `matmul`.
    Raises ArgumentError for a formula that makes no sense, ShapeError where sizes do not fit.
    """
    inputs, result = _parsed(formula, [len(shaped(x).shape) for x in xs])
    terms = [_diagonal(x, labels) for x, labels in zip(xs, inputs, strict=True)]
    _check_sizes(terms)
    value, labels = terms[0]
    for i, (other, others) in enumerate(terms[1:], start=1):
        later = {label for _, rest in terms[i + 1 :] for label in rest} | set(result)
        value, labels = _contract(value, labels, other, others, later)
    value, labels = _summed(value, labels, set(result))
    order = tuple(labels.index(label) for label in result)
    value = value if order == tuple(range(len(order))) else o.transpose(value, perm=order)
    return cast_like(value, shaped(xs[0]))  # sums of integers are wide


Labels = list[str]  # a letter, or ".0", ".1" ... for axes of the ellipsis, counted from the end


def _parsed(formula: str, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    left, arrow, right = formula.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise ArgumentError(
            "a formula has a part for each operand", expected=f"{len(ranks)} parts", got=formula
        )
    inputs = [_labels(p, rank, formula) for p, rank in zip(parts, ranks, strict=True)]
    free = sorted({la for labels in inputs for la in labels if la[0] == "."}, reverse=True)
    if arrow:
        result = _labels(right, None, formula, free)
    else:
        every = "".join(parts).replace(".", "")
        result = [*free, *(c for c in sorted(set(every)) if every.count(c) == 1)]
    known = {label for labels in inputs for label in labels}
    if len(set(result)) != len(result) or not set(result) <= known:
        raise ArgumentError("the result names an axis twice, or one that is not there", got=formula)
    return inputs, result


def _labels(part: str, rank: int | None, formula: str, free: Labels | None = None) -> Labels:
    """A label an axis; `free`: what an ellipsis stands for, default what the rank leaves."""
    before, dots, after = part.partition("...")
    letters = before + after
    if not all(c.isascii() and c.isalpha() for c in letters):
        raise ArgumentError("a formula is of letters, commas, -> and ...", got=formula)
    if free is None:
        extra = (rank or 0) - len(letters)
        if extra < 0 or (extra and not dots):
            raise ArgumentError("a letter is needed for each axis", got=f"{part!r} for rank {rank}")
        free = [f".{i}" for i in reversed(range(extra))]
    return [*before, *(free if dots else []), *after]


def _diagonal(x: Any, labels: Labels) -> tuple[Any, Labels]:
    """x with an axis for each label once."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            x = _one_diagonal(x, first, second)
            labels = [la for i, la in enumerate(labels) if i not in (first, second)] + [label]
    return x, labels


def _one_diagonal(x: Any, first: int, second: int) -> Any:
    """x[..., i, ..., i, ...] as [..., i]: two axes become the last one."""
    shape = shaped(x).shape
    size = shape[first]
    require_equal(size, shape[second], "the sizes of an axis taken twice")
    others = [i for i in range(len(shape)) if i not in (first, second)]
    turned = o.transpose(x, perm=(*others, first, second))
    flat = o.reshape(turned, shape=(*(shape[i] for i in others), size * size))
    steps = o.arange(stop=size)
    places = o.mul(steps, o.add(o.dim_value(dim=size), 1))
    return o.gather(flat, places, axis=len(others))


def _check_sizes(terms: Sequence[tuple[Any, Labels]]) -> None:
    sizes: dict[str, Size] = {}
    for x, labels in terms:
        for label, size in zip(labels, shaped(x).shape, strict=True):
            old = sizes.setdefault(label, size)
            if label[0] == "." and 1 in (old, size):  # broadcast
                continue
            if isinstance(old, int) and isinstance(size, int) and old != size:
                raise ShapeError(f"the axis '{label}' has two sizes", got=f"{old} and {size}")


def _summed(x: Any, labels: Labels, kept: set[str]) -> tuple[Any, Labels]:
    """x without the axes nobody asks for any more."""
    gone = tuple(i for i, label in enumerate(labels) if label not in kept)
    if not gone:
        return x, labels
    return o.reduce_sum(x, axis=gone), [label for label in labels if label in kept]


def _contract(x: Any, mine: Labels, y: Any, theirs: Labels, later: set[str]) -> tuple[Any, Labels]:
    """Two operands made one by a product of matrices; labels in `later` stay."""
    x, mine = _summed(x, mine, later | set(theirs))
    y, theirs = _summed(y, theirs, later | set(mine))
    batch = sorted({la for la in (*mine, *theirs) if la[0] == "."}, reverse=True)
    both = [la for la in mine if la in theirs and la[0] != "."]
    batch += [la for la in both if la in later]
    inner = [la for la in both if la not in later]
    rows = [la for la in mine if la not in theirs and la[0] != "."]
    columns = [la for la in theirs if la not in mine and la[0] != "."]
    left, right = _matrix(x, mine, batch, rows, inner), _matrix(y, theirs, batch, inner, columns)
    out = o.matmul(left, right)
    sizes = dict(zip(theirs, shaped(y).shape, strict=True))
    sizes |= dict(zip(mine, shaped(x).shape, strict=True))
    shape = (*shaped(out).shape[:-2], *(sizes[la] for la in (*rows, *columns)))
    return o.reshape(out, shape=shape), [*batch, *rows, *columns]


def _matrix(x: Any, labels: Labels, batch: Labels, rows: Labels, columns: Labels) -> Any:
    """x as [*batch, rows, columns]; batch axes it lacks have size 1."""
    absent = tuple(i for i, la in enumerate(batch) if la not in labels)
    order = [labels.index(la) for la in (*batch, *rows, *columns) if la in labels]
    if order != list(range(len(order))):
        x = o.transpose(x, perm=tuple(order))
    sizes = dict(zip(labels, (shaped(x).shape[order.index(i)] for i in range(len(labels))),
                     strict=True))  # fmt: skip
    lead = [sizes[la] for la in batch if la in sizes]
    shape = (*lead, product(sizes[la] for la in rows), product(sizes[la] for la in columns))
    x = x if tuple(shaped(x).shape) == shape else o.reshape(x, shape=shape)
    return o.unsqueeze(x, axis=absent) if absent else x
