"""Attention, forward and backward, block by block: the scores of QUERIES x KEYS at a time stay in
the cache, the matrix of all scores never exists (Dao et al., 2022; Rabe and Staats, 2021).

A thread takes blocks of queries (forward) or whole heads (backward). Products run in register tiles
(`gemm.py`) on packed keys and values; heads are read where the linear layer before left them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noria.core.dtypes import itemsize
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.attention_source import backward, block_bytes, forward
from noria.kernels.numba.launch import float_bits, launch, need
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import PAIRS
from noria.kernels.numba.widened import Widened
from noria.kernels.registry import Array, BoundOp, Declined, Kernel, Prepared, register
from noria.ops.precision import PRODUCTS


@dataclass(frozen=True, slots=True)
class _View:
    """Where the heads of an operand lie: the first one's offset, and strides from example to
    example, head to head and position to position, all in bytes."""

    offset: int
    example: int
    head: int
    position: int

    def of(self, address: int) -> list[int]:
        return [address + self.offset, self.example, self.head, self.position]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Sizes of an attention, and the views of q, k, v and out."""

    batch: int
    heads: int
    queries: int
    keys: int
    inner: int
    width: int
    views: tuple[_View, _View, _View, _View]

    @property
    def sizes(self) -> list[int]:
        return [self.batch, self.heads, self.queries, self.keys, self.inner, self.width]

    @property
    def work(self) -> float:
        """Operations of the two products of the forward pass."""
        scores = self.batch * self.heads * self.queries * self.keys
        return 2 * scores * (self.inner + self.width)


def _apart(operands: Sequence[Array], layout: str, size: int) -> _Shape:
    """Of operands that begin with q, k and v, apart, in a layout; size: bytes of an element."""
    q, k, v = operands[:3]
    heads, time = (1, 2) if layout == "nhtd" else (2, 1)

    def view(a: Array, last: int) -> _View:
        strides = [last * size] * 4
        for axis in (2, 1, 0):
            strides[axis] = strides[axis + 1] * (a.shape[axis + 1] if axis < 2 else 1)
        return _View(0, strides[0], strides[heads], strides[time])

    out = Array((*q.shape[:3], v.shape[3]), q.dtype, ())
    views = tuple(view(a, a.shape[3]) for a in (q, k, v, out))
    sizes = q.shape[0], q.shape[heads], q.shape[time], k.shape[time], q.shape[3], v.shape[3]
    return _Shape(*sizes, views)  # type: ignore[arg-type]


def _packed(qkv: Array, size: int) -> _Shape:
    """Of [N, T, 3, heads, d], with out [N, T, heads, d]; size: bytes of an element."""
    n, t, _, heads, d = qkv.shape
    row, head = heads * d * size, d * size
    views = [_View(i * row, 3 * t * row, head, 3 * row) for i in range(3)]
    return _Shape(n, heads, t, t, d, d, (*views, _View(0, t * row, head, row)))  # type: ignore


def _mask(mask: Array | None, address: int) -> list[int]:
    """Address, kind (0 none, 1 float, 2 bool), and strides in bytes of the four axes of scores."""
    if mask is None:
        return [0, 0, 0, 0, 0, 0]
    size = itemsize(mask.dtype)
    axes = zip(mask.shape, mask.strides, strict=True)
    strides = [0 if n == 1 else s * size for n, s in axes]
    return [address, 2 if mask.dtype == "bool" else 1, *[0] * (4 - len(strides)), *strides]


class Attention(Kernel):
    """`attention` and `self_attention`, and their gradients. Halves are multiplied as such where
    the CPU does; elsewhere, or if a head's size is odd, they become float32 on the way in and are
    rounded once on the way out. Scores, softmax and sums are float32."""

    name = "numba:attention"
    ops = ("attention", "self_attention", "attention_grad", "self_attention_grad")

    def accepts(self, op: Operator) -> None:
        at = len(op.inputs) - 1 if _has_mask(op) else len(op.inputs)
        need(op, ("float32", "bfloat16"), range(at))
        need(op, ("float32", "bool"), range(at, len(op.inputs)))
        if len({op.operands[i].dtype for i in PRODUCTS[op.type]}) > 1:
            raise Declined("halves beside float32")

    def bind(self, bound: BoundOp) -> Prepared:
        grad = bound.op.type.endswith("_grad")
        packed = bound.op.type.startswith("self_")
        arrays = [a for a in bound.inputs if a is not None]
        mask = arrays.pop() if _has_mask(bound.op) else None
        half = arrays[0].dtype == "bfloat16"
        odd = any(a.shape[-1] % 2 for a in arrays[: 1 if packed else 3])
        pairs = half and PAIRS and not odd
        size = 2 if pairs else 4
        shape = _packed(arrays[0], size) if packed else _apart(arrays, bound.attrs["layout"], size)
        scale = bound.attrs["scale"]
        scale = shape.inner**-0.5 if scale is None else scale
        how = [float_bits(scale), int(bound.attrs["causal"])]
        team = max(bound.threads, thread_count())
        room = block_bytes(shape.inner, shape.width, shape.queries if grad else 0, pairs)
        source = (backward if grad else forward)(pairs)
        widened = Widened(bound, room * team) if half and not pairs else None

        def attend(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            operands = [ins[0]] * 3 if packed else ins[:3]
            rest = ins[1:] if packed else ins[3:]
            results = [outs[0]] * 3 if packed else outs[:3]
            q, k, v, out = shape.views
            table = [x for view, a in zip((q, k, v), operands, strict=True) for x in view.of(a)]
            if grad:
                table += [*out.of(rest[0]), rest[1], *out.of(rest[2])]
                for view, a in zip((q, k, v), results, strict=True):
                    table += view.of(a)
            else:
                table += [*out.of(outs[0]), outs[1]]
            table += [*_mask(mask, ins[-1]), *shape.sizes, *how]
            table += [gemm.product(pairs=pairs).address, gemm.packer().address, scratch, room]
            table += [gemm.row_packer().address] * pairs
            count = int(shape.work * (2.5 if grad else 1) / 8)  # of vectors' lanes
            call = launch(self.name, source, "attend", table, threads=bound.threads, ops=8 * count)
            return [call]

        if widened is None:
            return Prepared(attend, room * team)
        return Prepared(widened.around(attend), widened.nbytes)


def _has_mask(op: Operator) -> bool:
    """The mask is the last of the optional inputs."""
    plain = {"attention": 3, "self_attention": 1, "attention_grad": 6, "self_attention_grad": 4}
    return len(op.inputs) > plain[op.type] and op.inputs[-1] is not None


register(Attention())
