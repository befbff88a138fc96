"""The rows of a profile: one for each step that runs, with its times, its costs and its kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from noria.ir.program import Value
from noria.runtime.bind import Bound
from noria.runtime.buffers import Item
from noria.runtime.profiling.peaks import Peaks
from noria.runtime.profiling.phases import ENGINE, layers, phase_of, phases
from noria.runtime.timing import engine_of
from noria.runtime.work import Work


@dataclass(frozen=True, eq=False)
class Row:
    """A step of a profile.

    index:      its place in the order of running
    op:         its type; "reorder" and "pack" are copies into other layouts, "feeds", "fetch" and
                "commit" what the engine does around a step
    kernel:     who ran it; detail: which implementation, where a library chose one
    refused:    (kernel, why it did not take the operator)
    source:     the user's line; made_by: the pass or transform that made the operator
    layer:      whose parameters it belongs to; phase: forward, backward, update ...
    inputs, outputs: operands as text, `relu: float32[16, 64]`
    dtype:      of its arithmetic
    denormals:  the largest share of denormal numbers in a result; None: nobody looked
    samples:    seconds of each run
    nbytes:     bytes read and written; operations: arithmetic ones
    floor:      seconds nothing can beat here: `Peaks.floor`
    """

    index: int
    op: str
    kernel: str
    samples: Sequence[float]
    nbytes: float = 0.0
    operations: float = 0.0
    floor: float = 0.0
    detail: str = ""
    refused: Sequence[tuple[str, str]] = ()
    source: str = ""
    made_by: str = ""
    layer: str = ""
    phase: str = ENGINE
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    dtype: str = "float32"
    denormals: float | None = None

    @cached_property
    def seconds(self) -> float:
        """The median."""
        return float(np.median(self.samples))

    @property
    def lost(self) -> float:
        """Seconds above the floor."""
        return max(self.seconds - self.floor, 0.0)

    @property
    def bandwidth(self) -> float:
        """Bytes a second."""
        return self.nbytes / self.seconds if self.seconds else 0.0

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds if self.seconds else 0.0


def step_rows(
    bound: Bound, items: Sequence[Item], samples: Sequence[Sequence[float]], peaks: Peaks
) -> list[Row]:
    """A row for each item. samples: seconds of each item in each run, [items][runs]."""
    program, steps = bound.plan.program, [s.op for s in bound.plan.steps]
    phase, layer = phases(program, steps), layers(program, steps)
    rows: list[Row] = []
    for item, times in zip(items, samples, strict=True):
        op, work, dtype = item.step.op, bound.work(item), dtype_of(item)
        op_type = "pack" if item.pack is not None else op.type
        copies = item.pack is not None or item.reorders
        rows.append(
            Row(
                len(rows),
                op_type,
                engine_of(item),
                list(times),
                work.nbytes,
                work.operations,
                floor(work, dtype, peaks),
                "" if copies or item.prepared is None else item.prepared.detail,
                [] if copies else list(item.step.refused),
                str(op.source or ""),
                op.made_by,
                layer.get(op, ""),
                phase_of(item, phase),
                [told(v, bound) for v in item.inputs if v is not None],
                [told(v, bound) for v in item.outputs],
                dtype,
            )
        )
    return rows


def engine_rows(
    bound: Bound, names: Sequence[str], samples: Mapping[str, Sequence[float]], first: int
) -> list[Row]:
    """Rows for copying feeds in, outputs out, and new state to its place.

    names: of the outputs that are fetched; first: the index of the first row
    """
    values = [bound.plan.program.outputs[n] for n in names]
    copied = {
        "feeds": sum(a.nbytes for a in bound.feeds),
        "fetch": sum(bound.array(v).nbytes for v in values if bound.memory.sized(v)),
        "commit": bound.commit_bytes,
    }
    found = [(name, times) for name, times in samples.items() if copied[name]]
    return [
        Row(first + i, name, "engine", times, 2.0 * copied[name])
        for i, (name, times) in enumerate(found)
    ]


def floor(work: Work, dtype: str, peaks: Peaks) -> float:
    """Seconds nothing can beat; none where nothing is touched."""
    return peaks.floor(work.nbytes, work.operations, dtype) if work.nbytes else 0.0


def dtype_of(item: Item) -> str:
    """Of the arithmetic: that of the first operand, as in a product."""
    values = [*item.step.op.operands, *item.outputs]
    return values[0].dtype if values else "float32"


def told(v: Value, bound: Bound) -> str:
    """`name: float32[16, 64]` with the real sizes, where they are known."""
    if not bound.memory.sized(v):
        return f"{v.name}: {v}"
    return f"{v.name}: {v.dtype}[{', '.join(map(str, bound.array(v).shape))}]"
