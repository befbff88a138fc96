"""Matrices kept as a train of small cores.  (Oseledets, 2011; Novikov et al., 2015)"""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import pullback
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import row_numbers
from noria.core.dims import product
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o

CORES = 3


def _digits(op: Node, ids: Any) -> list[Any]:
    """The number of the slice of each core an id stands for, the smallest digit first."""
    sizes = op.ints("factor_i", (1,) * CORES)
    if len(sizes) != CORES or min(sizes) < 1:
        raise ArgumentError("factor_i has three positive sizes", got=str(sizes))
    first, second, _ = sizes
    ids = o.cast(ids, dtype="int64")
    rest = o.floor_divide(ids, first)
    return [
        o.remainder(ids, first),
        o.remainder(rest, second),
        o.floor_divide(rest, second),
    ]


def _products(cores: list[Any], digits: list[Any]) -> list[Any]:
    """Products of the chosen slices, core after core: [T, columns so far, rank].

    cores: [ids, rank, columns, next rank] each
    """
    out: list[Any] = []
    for core, digit in zip(cores, digits, strict=True):
        _, rank, columns, after = core.shape
        part = o.gather(core, digit)
        if not out:
            out.append(o.reshape(part, shape=(digit.shape[0], columns, after)))
            continue
        flat = o.reshape(part, shape=(digit.shape[0], rank, columns * after))
        joined = o.matmul(out[-1], flat)
        wide = out[-1].shape[1] * columns
        out.append(o.reshape(joined, shape=(digit.shape[0], wide, after)))
    return out


@caffe2_op("TTSparseLengthsSum")
def tt_sparse_lengths_sum(op, core0, core1, core2, ids, lengths):
    """(sums of the rows of each segment [N, columns], products after each core, digits of ids).

    Older nets have no product after the last core.
    """
    digits = _digits(op, ids)
    products = _products([core0, core1, core2], digits)
    rows = o.reshape(products[-1], shape=(ids.shape[0], product(products[-1].shape[1:])))
    owner = row_numbers(op, lengths, ids.shape[0])
    sums = o.scatter_rows(owner, rows, shape=(lengths.shape[0], rows.shape[1]))
    kept = products if len(op.outputs) > CORES + 1 else products[:-1]
    return sums, *kept, o.concat(*(o.unsqueeze(d, axis=1) for d in digits), axis=1)


@caffe2_op("TTSparseLengthsSumGradient")
def tt_sparse_lengths_sum_gradient(op, core0, core1, core2, *rest):
    """Gradients of the cores, from lengths, the digits and the gradient of the sums."""
    lengths, table, dy = rest[1 if len(rest) == 7 else 0], rest[-2], rest[-1]
    digits = [
        o.squeeze(o.slice(table, axes=(1,), starts=(i,), stops=(i + 1,)), axis=1)
        for i in range(CORES)
    ]
    grad = o.gather(dy, row_numbers(op, lengths, table.shape[0]))
    fn = lambda *cores: _products(list(cores), digits)[-1]  # noqa: E731
    return pullback(fn, [core0, core1, core2], [grad], list(range(CORES)))
