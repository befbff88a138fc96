"""Tells LLVM which loops have independent iterations, so that it needs no overlap checks.

Works on the IR Numba has just written, where the loops are still those of the source. A marked loop
becomes what LLVM calls parallel: `llvm.loop.parallel_accesses` names the access group of all its
loads and stores. The vectoriser then keeps each iteration's own order of loads and stores, which is
what in-place use needs and what `noalias` would not promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llvmlite import ir

_FIRST_NODE = 1_000_000  # metadata numbers above those llvmlite gives out


class _Node:
    """A metadata node written into the module's text by hand: llvmlite has no `distinct`."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_reference(self) -> str:
        return f"!{self.number}"


def annotate(function: ir.Function, marks: Mapping[str, bool]) -> str:
    """Marks every innermost loop that calls one of the `marks`, and removes the calls.

    marks: name -> whether the loop must not be unrolled (LLVM else unrolls loops of a few turns
           before it looks for vectors, and then finds none)

    Returns the metadata definitions to append to the text of the module.
    """
    loops = _loops(function)
    lines: list[str] = []
    for block in function.blocks:
        calls = [i for i in block.instructions if _callee(i) in marks]
        if calls:
            block.instructions = [i for i in block.instructions if i not in calls]
            around = [h for h, (body, _) in loops.items() if block in body]
            if around:
                header = min(around, key=lambda h: len(loops[h][0]))
                if not any(h is not header and h in loops[header][0] for h in loops):
                    whole = any(marks[_callee(c)] for c in calls)
                    number = _FIRST_NODE + len(lines)
                    lines += _make_parallel(*loops.pop(header), whole, number)
    return "\n".join(lines)


def _callee(instruction: ir.Instruction) -> str:
    """The function it calls; '' for other instructions."""
    return str(instruction.callee.name) if isinstance(instruction, ir.CallInstr) else ""


def _make_parallel(
    body: set[ir.Block], latches: list[ir.Block], whole: bool, number: int
) -> list[str]:
    group, loop, accesses, unroll = (_Node(number + k) for k in range(4))
    more = f", !{unroll.number}" if whole else ""
    for block in body:
        for instruction in block.instructions:
            if getattr(instruction, "element", False):
                instruction.set_metadata("llvm.access.group", group)
    for latch in latches:
        latch.terminator.set_metadata("llvm.loop", loop)
    return [
        f"!{group.number} = distinct !{{}}",
        f"!{loop.number} = distinct !{{!{loop.number}, !{accesses.number}{more}}}",
        f'!{accesses.number} = !{{!"llvm.loop.parallel_accesses", !{group.number}}}',
        f'!{unroll.number} = !{{!"llvm.loop.unroll.disable"}}',
    ]


def _loops(function: ir.Function) -> dict[ir.Block, tuple[set[ir.Block], list[ir.Block]]]:
    """header -> (blocks of the natural loop, blocks that jump back)."""
    before: dict[ir.Block, list[ir.Block]] = {b: [] for b in function.blocks}
    for block in function.blocks:
        for successor in _successors(block):
            before[successor].append(block)
    loops: dict[ir.Block, tuple[set[ir.Block], list[ir.Block]]] = {}
    for latch, header in _back_edges(function):
        body, latches = loops.setdefault(header, ({header}, []))
        latches.append(latch)
        todo = [latch]
        while todo:
            block = todo.pop()
            if block not in body:
                body.add(block)
                todo += before[block]
    return loops


def _successors(block: ir.Block) -> list[ir.Block]:
    end = block.terminator
    if isinstance(end, ir.SwitchInstr):
        return [end.default, *(target for _, target in end.cases)]
    return [operand for operand in end.operands if isinstance(operand, ir.Block)]


def _back_edges(function: ir.Function) -> Iterator[tuple[ir.Block, ir.Block]]:
    """Edges to a block that is still open in a depth-first walk; Python's loops are reducible."""
    entry = function.entry_basic_block
    seen, open_ = {entry}, {entry}
    path = [(entry, iter(_successors(entry)))]
    while path:
        block, rest = path[-1]
        following = next(rest, None)
        if following is None:
            open_.discard(block)
            path.pop()
        elif following in open_:
            yield block, following
        elif following not in seen:
            seen.add(following)
            open_.add(following)
            path.append((following, iter(_successors(following))))
