"""What oneDNN does not check itself, and answers with wrong numbers or writes out of bounds.

Each rule was found by running random layouts against NumPy (version 3.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.core.errors import EngineError
from noria.kernels.onednn.attr import Binary, PostOp
from noria.kernels.onednn.enums import ARG, arg_name
from noria.kernels.onednn.memory import MemDesc

if TYPE_CHECKING:
    from noria.kernels.onednn.primitive import Primitive


_FUSES_BINARY = ("matmul", "inner_product", "convolution")


def need_fusable(primitive: Primitive, post_ops: tuple[PostOp, ...]) -> Primitive:
    """The primitive; EngineError if it would compute one of its binary post-ops wrongly."""
    binary = [op.other for op in post_ops if isinstance(op, Binary)]
    if not binary:
        return primitive
    kind, dst = primitive.kind, primitive.descs[ARG.DST]
    if kind not in _FUSES_BINARY:
        fits = f"behind {', '.join(_FUSES_BINARY)} only"
        raise EngineError(f"{kind} does not fuse a binary post-op", expected=fits)
    if not (dst.lies_like(MemDesc(dst.dims, dst.dtype)) or dst.is_channels_last):
        expected = "a dense dst, row-major or channels-last"
        raise EngineError(f"{kind} with a binary post-op", expected=expected, got=repr(dst))
    for other in binary:
        _need_broadcast(kind, dst, other)
    return primitive


def _need_broadcast(kind: str, dst: MemDesc, other: MemDesc) -> None:
    same_rank = len(other.dims) == len(dst.dims)
    if not same_rank or any(o not in (1, d) for o, d in zip(other.dims, dst.dims, strict=True)):
        expected = f"{len(dst.dims)} dims, each 1 or that of {list(dst.dims)}"
        what = f"a post-op of {kind} does not broadcast to dst"
        raise EngineError(what, expected=expected, got=repr(other))
    if not other.is_dense:
        raise EngineError(f"a post-op of {kind} needs dense memory", got=repr(other))


def need_dense(primitive: Primitive, *args: int) -> Primitive:
    """The primitive; EngineError if one of these arguments has gaps between its elements."""
    for arg in args:
        if not primitive.descs[arg].is_dense:
            what, got = f"{primitive.kind} needs dense memory", repr(primitive.descs[arg])
            hint = "copy it with reorder first"
            raise EngineError(what, where=arg_name(arg), got=got, hint=hint)
    return primitive
