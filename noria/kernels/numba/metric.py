"""Accuracy in native code: a training step then has no Python in it."""

from __future__ import annotations

from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register

# A score before the label's: higher, or equal and of a lower class. NaN is before nothing.
_ACCURACY = """
def accuracy(args):
    scores = load_int64(args, 0)
    labels = load_int64(args, 1)
    out = load_int64(args, 2)
    rows = load_int64(args, 3)
    classes = load_int64(args, 4)
    k = load_int64(args, 5)
    hits = 0
    for row in range(rows):
        label = int64(load_LABEL(labels, row))
        if label >= 0 and label < classes:
            at = row * classes
            own = load_float32(scores, at + label)
            before = 0
            for c in range(label):
                before += int64(load_float32(scores, at + c) >= own)
            for c in range(label, classes):
                before += int64(load_float32(scores, at + c) > own)
            if before < k and own == own:
                hits += 1
    store_float32(out, 0, float32(hits) / float32(rows))
    return 0
"""


class Accuracy(Kernel):
    name = "numba:accuracy"
    ops = ("accuracy",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",), (0,))
        need(op, ("int64", "int32"), (1,))
        scores, labels = op.operands
        if scores.ndim == labels.ndim:
            raise Declined("predicted classes, not scores")

    def bind(self, bound: BoundOp) -> Prepared:
        scores, labels = bound.inputs
        assert scores is not None and labels is not None
        rows, classes = prod(labels.shape), scores.shape[-1]
        text = _ACCURACY.replace("LABEL", labels.dtype)
        end = [rows, classes, min(bound.attrs["k"], 1 << 62)]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            return [launch(self.name, text, "accuracy", [*ins, *outs, *end], threads=1)]

        return Prepared(emit)


register(Accuracy())
