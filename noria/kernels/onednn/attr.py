"""Attributes of a primitive: precision of its arithmetic, and what is fused behind it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from noria.kernels.onednn.enums import ARG, BINARY, ELTWISE, FPMATH, lookup
from noria.kernels.onednn.lib import Handle, Library, check
from noria.kernels.onednn.memory import MemDesc


@dataclass(frozen=True, slots=True)
class Eltwise:
    """dst = kind(dst), with the two parameters some kinds take (enums.ELTWISE)."""

    kind: str
    alpha: float = 0.0
    beta: float = 0.0

    def append(self, lib: Library, ops: int) -> int:
        code = lookup(ELTWISE, self.kind, "eltwise kind")
        return int(lib.c.dnnl_post_ops_append_eltwise(ops, code, self.alpha, self.beta))


@dataclass(frozen=True, slots=True)
class Sum:
    """dst = dst + scale * what dst held before the primitive ran."""

    scale: float = 1.0

    def append(self, lib: Library, ops: int) -> int:
        return int(lib.c.dnnl_post_ops_append_sum(ops, self.scale, 0, 0))


@dataclass(frozen=True, slots=True)
class Binary:
    """dst = kind(dst, other); `other` has dst's rank, each dim dst's or 1 (enums.BINARY)."""

    kind: str
    other: MemDesc

    def append(self, lib: Library, ops: int) -> int:
        code = lookup(BINARY, self.kind, "binary kind")
        return int(lib.c.dnnl_post_ops_append_binary(ops, code, self.other))


PostOp = Eltwise | Sum | Binary


@dataclass(frozen=True, slots=True)
class Attr:
    """How a primitive computes.

    fpmath:   'strict', or what float32 inputs may be rounded to inside (enums.FPMATH)
    post_ops: applied in this order to the result, in float32, before it is stored. The second
              source of a Binary at place i is the argument ARG.post_op(i).

    The scratchpad is always the caller's: it is one more argument, `Primitive.scratch_bytes` long.
    """

    fpmath: str = "strict"
    post_ops: tuple[PostOp, ...] = ()

    @property
    def extra_args(self) -> tuple[int, ...]:
        """Arguments the post-ops add to the primitive's own."""
        return tuple(ARG.post_op(i) for i, p in enumerate(self.post_ops) if isinstance(p, Binary))

    @contextmanager
    def native(self, lib: Library) -> Iterator[int]:
        """The C attributes, destroyed on leaving: primitive descriptors keep their own copy."""
        c, out = lib.c, ctypes.c_void_p()
        check(c.dnnl_primitive_attr_create(ctypes.byref(out)), "attributes")
        assert out.value
        attr = Handle(out.value, c.dnnl_primitive_attr_destroy)
        check(c.dnnl_primitive_attr_set_scratchpad_mode(attr.value, 1), "a user scratchpad")
        mode = lookup(FPMATH, self.fpmath, "fpmath mode")
        check(c.dnnl_primitive_attr_set_fpmath_mode(attr.value, mode), "fpmath " + self.fpmath)
        self._set_post_ops(lib, attr.value)
        yield attr.value

    def _set_post_ops(self, lib: Library, attr: int) -> None:
        if not self.post_ops:
            return
        out = ctypes.c_void_p()
        check(lib.c.dnnl_post_ops_create(ctypes.byref(out)), "post-ops")
        assert out.value
        ops = Handle(out.value, lib.c.dnnl_post_ops_destroy)
        for op in self.post_ops:
            check(op.append(lib, ops.value), "a post-op", got=repr(op))
        check(lib.c.dnnl_primitive_attr_set_post_ops(attr, ops.value), "post-ops", got=repr(self))


PLAIN = Attr()
