"""Which elementwise operators run in one loop.

Each operator gets a level. An operator may have the level of one whose output it takes if the two
could share a loop, otherwise its level is higher. So operators of one level that feed each other
can be made one without a cycle: every way out of such a group leads to a higher level, and no way
leads down.

Levels start as low as they can be. Then, from the last operator to the first, an operator that
feeds only higher levels is raised to the lowest of them if it can join a loop there: `param * 0.01`
depends on nothing, but belongs into the loop that updates the parameter.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from noria.core.dtypes import is_float
from noria.ir.index import Index
from noria.ir.nested import has_effect
from noria.ir.program import Block, Operator, Shape, Value, symbols_told, symbols_used
from noria.ops.fused import ELEMENTWISE, REDUCTIONS, SPREAD, UPDATES, reduction_axes
from noria.passes.liveness import fixed_values

MAX_MEMBERS = 64  # of one loop, so that compiling it does not take long


@dataclass(eq=False, slots=True)
class Group:
    """Operators that run in one loop, in order. axes: of its reductions, if there are any."""

    members: list[Operator] = field(default_factory=list)
    axes: tuple[int, ...] | None = None


class Grouping:
    """The loops of one block.

    state: values from outside that no step changes
    groups: those worth a loop of their own; apart: (where, reason) for neighbours not joined
    """

    def __init__(self, block: Block, roots: Sequence[Value], state: set[Value]) -> None:
        self.operators = block.operators
        self.index = Index(block, roots)
        self.roots = set(roots)
        self.fixed = fixed_values(block.operators, state)
        self.before = self._dependencies()
        self.group_of: dict[Operator, Group] = {}
        self.level = self._lowest_levels()
        self._raise_levels()
        self.apart: list[tuple[str, str]] = []
        self._form_groups()
        self._join_siblings()
        candidates = dict.fromkeys(self.group_of.values())
        self.groups = [g for g in candidates if self._worthwhile(g)]

    # ---- who can share a loop ------------------------------------------------------------------

    def joins(self, maker: Operator, value: Value, user: Operator) -> bool:
        """Whether the user could read the value in the loop that makes it."""
        return (
            space_of(maker) is not None
            and maker.type not in REDUCTIONS
            and value.shape == space_of(user)
            and (value in self.fixed) == (user.outputs[0] in self.fixed)
        )

    def absorbed(self, value: Value, user: Operator) -> Operator | None:
        """The operator that a loop of the user's repeats to have the value: a number, or a
        broadcast to the space of the loop."""
        maker = self.index.producer.get(value)
        if maker is None or maker.type not in SPREAD:
            return None
        if maker.type == "fill":
            return maker
        return maker if value.shape == space_of(user) else None

    def _dependencies(self) -> dict[Operator, list[tuple[Operator, int]]]:
        """Operator -> (operator before it, how much lower its level must be)."""
        before: dict[Operator, list[tuple[Operator, int]]] = {}
        effect = None
        teller: dict[str, Operator] = {}  # symbol -> the operator that finds the size
        for o in self.operators:
            links = before[o] = [(teller[s], 1) for s in symbols_used(o) if s in teller]
            for v in dict.fromkeys(o.operands):
                maker = self.index.producer.get(v)
                if maker is not None:
                    together = self.joins(maker, v, o) or self.absorbed(v, o) is not None
                    links.append((maker, 0 if together else 1))
            if has_effect(o):  # effects keep their order
                links.extend([(effect, 1)] if effect is not None else [])
                effect = o
            teller.update((s, o) for s in symbols_told(o) if s not in teller)
        return before

    # ---- levels --------------------------------------------------------------------------------

    def _lowest_levels(self) -> dict[Operator, int]:
        level: dict[Operator, int] = {}
        for o in self.operators:
            level[o] = max((level[p] + step for p, step in self.before[o]), default=0)
        return level

    def _raise_levels(self) -> None:
        after: dict[Operator, list[tuple[Operator, int]]] = {o: [] for o in self.operators}
        for o, links in self.before.items():
            for p, step in links:
                after[p].append((o, step))
        for o in reversed(self.operators):
            movable = o.type in SPREAD or (space_of(o) is not None and o.type not in REDUCTIONS)
            if movable and after[o]:
                top = min(self.level[u] - step for u, step in after[o])
                if any(step == 0 and self.level[u] == top for u, step in after[o]):
                    self.level[o] = top

    # ---- groups --------------------------------------------------------------------------------

    def _form_groups(self) -> None:
        """Walk forwards, joining neighbours of one level; who cannot join rises above them."""
        for o in self.operators:
            below = (self.level[p] + step for p, step in self.before[o])
            self.level[o] = max(self.level[o], *below, 0)
            if space_of(o) is None:
                continue
            near = [p for p, step in self.before[o] if step == 0 and p in self.group_of]
            groups = dict.fromkeys(self.group_of[p] for p in near if self.level[p] == self.level[o])
            reason = self._obstacle(o, list(groups))
            if reason:
                self.level[o] += 1
                groups = {}
            self._tell_apart(o, near, reason)
            self._join(o, list(groups))

    def _obstacle(self, operator: Operator, groups: Sequence[Group]) -> str:
        """Why the operator cannot make one loop of these; '' if it can."""
        if 1 + sum(len(g.members) for g in groups) > MAX_MEMBERS:
            return f"the loop would have more than {MAX_MEMBERS} operators"
        axes = {g.axes for g in groups if g.axes} | {reduction_axes(operator)} - {None}
        return "its loop already reduces along other axes" if len(axes) > 1 else ""

    def _tell_apart(self, operator: Operator, near: Sequence[Operator], reason: str) -> None:
        for p in near:
            if self.level[p] != self.level[operator]:
                why = reason or "something else must run first"
                self.apart.append((operator.where(), f"apart from {p.where()}: {why}"))

    def _join(self, operator: Operator, groups: Sequence[Group]) -> None:
        group = groups[0] if groups else Group()
        for other in groups[1:]:
            group.members += other.members
            group.axes = group.axes or other.axes
            self.group_of.update(dict.fromkeys(other.members, group))
        if len(groups) > 1:
            group.members.sort(key=self.index.position.__getitem__)
        group.members.append(operator)
        group.axes = group.axes or reduction_axes(operator)
        self.group_of[operator] = group

    def _join_siblings(self) -> None:
        """Reductions of one level that run along the same axes of the same value share a loop,
        which reads it once; groups of one level do not depend on each other."""
        first: dict[tuple[Value, int, tuple[int, ...]], Group] = {}
        for group in list(dict.fromkeys(self.group_of.values())):
            if group.axes is None:
                continue
            level, space = self.level[group.members[0]], space_of(group.members[0])
            read = {v for o in group.members for v in o.operands if v.shape == space}
            made = {v for o in group.members for v in o.outputs}
            keys = [(v, level, group.axes) for v in read - made]
            others = dict.fromkeys(g for k in keys if (g := first.get(k)) is not None)
            for other in others:
                if self._alike(group, other):
                    other.members.extend(group.members)
                    other.members.sort(key=self.index.position.__getitem__)
                    self.group_of.update(dict.fromkeys(group.members, other))
                    group = other
                    break
            first.update((k, group) for k in keys if k not in first)

    def _alike(self, a: Group, b: Group) -> bool:
        """Whether both are computed once for all steps, or neither, and are not too long."""
        fixed = {g.members[0].outputs[0] in self.fixed for g in (a, b)}
        return len(fixed) == 1 and len(a.members) + len(b.members) <= MAX_MEMBERS

    def _worthwhile(self, group: Group) -> bool:
        """Two operators or more; a number alone costs nothing in any kernel."""
        first = group.members[0]
        spread = (self.absorbed(v, first) for v in first.operands)
        arrays = [o for o in spread if o is not None and o.outputs[0].shape != ()]
        return len(group.members) + len(arrays) > 1

    def outputs_of(self, group: Group) -> list[Value]:
        """The values made in the group that something outside needs."""
        made = [v for o in group.members for v in o.outputs]
        return [
            v
            for v in made
            if v in self.roots
            or any(self.group_of.get(u) is not group for u in self.index.users[v])
        ]

    # ---- order ---------------------------------------------------------------------------------

    def in_order(self) -> list[Operator | Group]:
        """Groups and other operators in a valid order, as near to the old one as can be."""
        chosen = set(self.groups)
        unit_of: dict[Operator, Operator | Group] = {}
        place: dict[Operator | Group, int] = {}
        for position, o in enumerate(self.operators):
            group = self.group_of.get(o)
            unit = unit_of[o] = group if group in chosen else o
            place[unit] = position
        waits: dict[Operator | Group, set[Operator | Group]] = {u: set() for u in place}
        feeds: dict[Operator | Group, list[Operator | Group]] = {u: [] for u in place}
        for o, links in self.before.items():
            unit = unit_of[o]
            for p, _ in links:
                if unit_of[p] is not unit and unit_of[p] not in waits[unit]:
                    waits[unit].add(unit_of[p])
                    feeds[unit_of[p]].append(unit)
        return _sorted(place, {u: len(w) for u, w in waits.items()}, feeds)


def _sorted(
    place: dict[Operator | Group, int],
    waiting: dict[Operator | Group, int],
    feeds: dict[Operator | Group, list[Operator | Group]],
) -> list[Operator | Group]:
    """Of what is ready, always what stood first before.  (Kahn, 1962)"""
    unit_at = {p: u for u, p in place.items()}
    ready = [place[u] for u, n in waiting.items() if n == 0]
    heapq.heapify(ready)
    out: list[Operator | Group] = []
    while ready:
        unit = unit_at[heapq.heappop(ready)]
        out.append(unit)
        for user in feeds[unit]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, place[user])
    return out


def space_of(operator: Operator) -> Shape | None:
    """The indices an operator runs over; None unless it can be part of a loop."""
    if operator.type in ELEMENTWISE or operator.type in UPDATES:
        shapes = {v.shape for v in operator.outputs}
        integer_power = operator.type == "pow" and not is_float(operator.outputs[0].dtype)
        return shapes.pop() if len(shapes) == 1 and not integer_power else None
    if reduction_axes(operator) is not None and is_float(operator.operands[0].dtype):
        return operator.operands[0].shape
    return None
