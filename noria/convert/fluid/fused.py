"""Operators that Fluid's inference passes make of several: each is put together again."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.broadcast import aligned
from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.sequence import sequence_lengths
from noria.ops.sequence_window import sequence_windows

# ---- products ----------------------------------------------------------------------------------


def _product(shape: Any) -> Any:
    total: Any = 1
    for size in shape:
        total = total * size
    return total


def _flat(x: Any) -> Any:
    return o.reshape(x, shape=(-1,))


def _dense(x: Any, weight: Any, bias: Any, activation: str) -> Any:
    x = o.matmul(x, weight)
    if bias is not None:
        x = o.add(x, _flat(bias))
    return getattr(o, activation)(x) if activation not in ("", "identity") else x


@fluid_op("fc")
def fc(op: Op) -> dict[str, Any]:
    """padding_weights: the weight has 4 more rows and columns, which are not used."""
    x, weight = op.input("Input"), op.input("W")
    if op.attr("padding_weights", False):
        rows, columns = weight.shape
        weight = o.slice(weight, axes=(0, 1), starts=(0, 0), stops=(rows - 4, columns - 4))
    kept = op.attr("in_num_col_dims", 1)
    if not 0 < kept < len(x.shape):
        raise ArgumentError(
            "fc keeps some axes and multiplies the rest",
            expected=f"0 < in_num_col_dims < {len(x.shape)}",
            got=str(kept),
        )
    front = tuple(x.shape[:kept])
    flat = o.reshape(x, shape=(_product(front), _product(x.shape[kept:])))
    out = _dense(flat, weight, op.get("Bias"), op.attr("activation_type", ""))
    return {"Out": o.reshape(out, shape=(*front, weight.shape[1]))}


@fluid_op("fusion_repeated_fc_relu")
def fusion_repeated_fc_relu(op: Op) -> dict[str, Any]:
    x, found = op.input("X"), []
    for weight, bias in zip(op.inputs("W"), op.inputs("Bias"), strict=True):
        x = _dense(x, weight, bias, "relu")
        found.append(x)
    return {"Out": found[-1], "ReluOut": found[:-1]}


@fluid_op("fusion_squared_mat_sub")
def fusion_squared_mat_sub(op: Op) -> dict[str, Any]:
    """scalar * ((x @ y)^2 - x^2 @ y^2), as in factorization machines."""
    x, y = op.input("X"), op.input("Y")
    squares = o.square(x), o.square(y), o.square(o.matmul(x, y))
    out = o.mul(o.sub(squares[2], o.matmul(squares[0], squares[1])), op.attr("scalar", 1.0))
    names = ("SquaredX", "SquaredY", "SquaredXY")
    return {"Out": out, **dict(zip(names, squares, strict=True))}


# ---- two elementwise functions -----------------------------------------------------------------

BINARY = {"elementwise_add": "add", "elementwise_mul": "mul"}
UNARY = ("scale", "relu", "tanh", "sigmoid")


@fluid_op("fused_elemwise_activation")
def fused_elemwise_activation(op: Op) -> dict[str, Any]:
    """binary(x, unary(y)) or unary(binary(x, y)), as the order of the two in functor_list says."""
    names = tuple(op.need_attr("functor_list"))
    scale = op.attr("scale", 0.0)
    x, y = op.input("X"), op.input("Y")

    def unary(name: str, value: Any) -> Any:
        return o.mul(value, scale) if name == "scale" else getattr(o, name)(value)

    def binary(name: str, a: Any, b: Any) -> Any:
        return getattr(o, BINARY[name])(*aligned(a, b, op.attr("axis", -1)))

    if len(names) == 2 and names[0] in BINARY and names[1] in UNARY:
        inner = unary(names[1], y)
        out = binary(names[0], x, inner)
    elif len(names) == 2 and names[0] in UNARY and names[1] in BINARY:
        inner = binary(names[1], x, y)
        out = unary(names[0], inner)
    else:
        raise ArgumentError(
            "functor_list is a binary and a unary function",
            expected=f"one of {', '.join(BINARY)} and one of {', '.join(UNARY)}",
            got=repr(names),
        )
    return {"Out": out, "IntermediateOut": inner}


# ---- sequences ---------------------------------------------------------------------------------


def pooled(x: Any, row_splits: Any, kind: str) -> Any:
    """The sum of the steps of each row, divided by nothing, their number or its root."""
    total = o.sequence_sum(x, row_splits)
    if kind == "SUM":
        return total
    count = o.cast(o.maximum(sequence_lengths(row_splits), 1), dtype=total.dtype)
    if kind not in ("AVERAGE", "SQRT"):
        raise ArgumentError("no such pooltype", expected="SUM, AVERAGE or SQRT", got=repr(kind))
    count = count if kind == "AVERAGE" else o.sqrt(count)
    return o.div(total, o.unsqueeze(count, axis=1))


def _pooled_inputs(op: Op) -> list[Any]:
    kind, found = op.attr("pooltype", "SUM"), []
    for number, x in enumerate(op.inputs("X")):
        splits = op.lod("X", number)
        if not splits:
            raise ArgumentError(f"{op.type} needs ragged inputs", where=op.where)
        found.append(pooled(x, splits[-1], kind))
    return found


@fluid_op("fusion_seqpool_concat")
def fusion_seqpool_concat(op: Op) -> dict[str, Any]:
    return {"Out": o.concat(*_pooled_inputs(op), axis=op.attr("axis", 1))}


def with_click_rate(x: Any, use_cvm: bool) -> Any:
    """Columns of shows and clicks: as log(shows + 1) and log(clicks + 1) - log(shows + 1), or cut
    off."""
    shows, clicks, rest = o.split(x, sizes=(1, 1, x.shape[1] - 2), axis=1)
    if not use_cvm:
        return rest
    shows = o.log(o.add(shows, 1.0))
    return o.concat(shows, o.sub(o.log(o.add(clicks, 1.0)), shows), rest, axis=1)


@fluid_op("fusion_seqpool_cvm_concat")
def fusion_seqpool_cvm_concat(op: Op) -> dict[str, Any]:
    use_cvm = op.attr("use_cvm", True)
    parts = [with_click_rate(x, use_cvm) for x in _pooled_inputs(op)]
    return {"Out": o.concat(*parts, axis=op.attr("axis", 1))}


@fluid_op("fusion_seqexpand_concat_fc")
def fusion_seqexpand_concat_fc(op: Op) -> dict[str, Any]:
    """The first input is ragged; of the others each row goes to all steps of its row."""
    first, *others = op.inputs("X")
    splits = op.need_lod("X")
    total = first.shape[0]
    wide = [first, *(o.sequence_expand(x, splits[-1], total=total) for x in others)]
    activation = op.attr("fc_activation", "identity")
    out = _dense(o.concat(*wide, axis=1), op.input("FCWeight"), op.get("FCBias"), activation)
    return {"Out": Lod(out, splits)}


@fluid_op("fusion_seqconv_eltadd_relu")
def fusion_seqconv_eltadd_relu(op: Op) -> dict[str, Any]:
    """The steps around each step of its row side by side, zeros beyond its ends; a dense layer."""
    splits, x = op.need_lod("X"), op.input("X")
    length = op.need_attr("contextLength")
    windows = sequence_windows(x, splits[-1], length=length, start=op.attr("contextStart", 0))
    columns = o.reshape(windows, shape=(x.shape[0], length * x.shape[1]))
    out = _dense(columns, op.input("Filter"), op.input("Bias"), "relu")
    return {"Out": Lod(out, splits), "ColMat": columns}


@fluid_op("fused_embedding_seq_pool")
def fused_embedding_seq_pool(op: Op) -> dict[str, Any]:
    """Ids [T, .., K, 1]: the sum over each row of the embeddings of each of the K columns, side by
    side. An id that is padding_idx adds nothing."""
    table, ids, splits = op.input("W"), op.input("Ids"), op.need_lod("Ids")
    if op.attr("combiner", "sum") != "sum":
        raise ArgumentError("no such combiner", expected="sum", got=repr(op.attr("combiner")))
    width, count = table.shape[1], _product(ids.shape[1:])
    ids = o.reshape(ids, shape=(ids.shape[0], count))
    taken = o.gather(table, ids, axis=0)
    padding = op.attr("padding_idx", -1)
    if padding != -1:
        padding = padding if padding >= 0 else padding + table.shape[0]
        taken = o.where(o.unsqueeze(o.equal(ids, padding), axis=2), 0.0, taken)
    flat = o.reshape(taken, shape=(ids.shape[0], count * width))
    return {"Out": o.sequence_sum(flat, splits[-1])}
