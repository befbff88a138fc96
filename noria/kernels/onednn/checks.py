"""What oneDNN does not check itself, and answers with wrong numbers or writes out of bounds.

Each rule was found by running random layouts against NumPy (version 3.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.core.errors import EngineError
from noria.kernels.onednn.attr import Binary, PostOp
from noria.kernels.onednn.enums import arg_name
from noria.kernels.onednn.memory import Dims

if TYPE_CHECKING:
    from noria.kernels.onednn.primitive import Primitive


def need_broadcast(kind: str, dst: Dims, post_ops: tuple[PostOp, ...]) -> None:
    """Raise EngineError unless the second source of each binary post-op broadcasts to dst."""
    for other in (op.other for op in post_ops if isinstance(op, Binary)):
        same_rank = len(other.dims) == len(dst)
        if not same_rank or any(o not in (1, d) for o, d in zip(other.dims, dst, strict=True)):
            expected = f"{len(dst)} dims, each 1 or that of {list(dst)}"
            what = f"a post-op of {kind} does not broadcast to dst"
            raise EngineError(what, expected=expected, got=repr(other))


def need_dense(primitive: Primitive, *args: int) -> Primitive:
    """The primitive; EngineError if one of these arguments has gaps between its elements."""
    for arg in args:
        if not primitive.descs[arg].is_dense:
            what, got = f"{primitive.kind} needs dense memory", repr(primitive.descs[arg])
            hint = "copy it with reorder first"
            raise EngineError(what, where=arg_name(arg), got=got, hint=hint)
    return primitive


def need_one_layout(primitive: Primitive, *args: int, max_rank: int) -> Primitive:
    """The primitive; EngineError unless these arguments are laid out alike and dense.

    Above max_rank, the reference implementation addresses memory as if there were fewer dims.
    """
    first, *others = (primitive.descs[arg] for arg in args)
    told = ", ".join(f"{arg_name(arg)}={primitive.descs[arg]}" for arg in args)
    if not all(first.lies_like(other) for other in others):
        raise EngineError(f"{primitive.kind} needs equal dims and layouts", got=told)
    if len(first.dims) > max_rank:
        hint = "merge dims that are neighbours in memory"
        raise EngineError(f"{primitive.kind} takes {max_rank} dims at most", got=told, hint=hint)
    return need_dense(primitive, args[0])
