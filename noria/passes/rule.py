"""Rewriting by rules: a pattern, a check and a replacement, all in the op vocabulary.

    FUSE = Rule(
        lambda x, w, b: o.add(o.matmul(x, w, transpose_y=True), b),
        lambda m: None if m["b"].ndim == 1 else "the bias is not a vector",
        lambda x, w, b: o.linear(x, w, b),
    )

The pattern (see `pattern.py`) is anchored at the operator it returns and matched backwards. The
operators in between go away, so their values must have no other use, unless the rule is `shared`.
The check says why not, or None. The replacement is called with the values and attributes of the
pattern by name, and emits in place of the anchor, on behalf of the user's line.
"""

from __future__ import annotations

import inspect
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from noria.core.dims import prove_equal
from noria.core.errors import ProgramError
from noria.ir.emit import Builder
from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Spec, Value, walk
from noria.passes.liveness import fixed_values, live, unchanged_state
from noria.passes.nested import map_blocks
from noria.passes.pattern import Found, Pattern
from noria.passes.report import Report, publish

MAX_SWEEPS = 10


class Match:
    """What a rule found. `match["x"]` is the value or attribute that the pattern calls x.

    operator: the anchor
    """

    def __init__(
        self,
        found: Found,
        producer: Mapping[Value, Operator],
        fixed: set[Value],
        uses: Callable[[Value], int],
    ) -> None:
        self.bound: dict[str, Any] = {**found.values, **found.attrs}
        self.operators = list(found.operators.values())
        self.operator = self.operators[0]
        self._producer, self._fixed, self._uses = producer, fixed, uses

    def __getitem__(self, name: str) -> Any:
        return self.bound[name]

    def of(self, type: str) -> Operator:
        """The operator of that type which is nearest to the anchor."""
        return next(o for o in self.operators if o.type == type)

    def number(self, name: str) -> bool | int | float | None:
        """The number that fills the value, None if it is not a `fill`."""
        maker = self._producer.get(self.bound[name])
        return maker.attrs["value"] if maker is not None and maker.type == "fill" else None

    def used(self) -> list[bool]:
        """Which outputs of the anchor are used."""
        return [self._uses(v) > 0 for v in self.operator.outputs]

    def is_fixed(self, name: str) -> bool:
        """Whether no step changes the value."""
        return self.bound[name] in self._fixed


@dataclass(frozen=True, eq=False)
class Rule:
    """A rewrite. As a function Program -> Program it is a pass of its own.

    pattern:     function of values and attributes, traced once
    check:       Match -> reason why not, or None; None: always
    replacement: function of some of the pattern's names; gives a value for each output, or one
                 for the first (None: that output has no use); `match` among them is the Match
    shared:      what is between may have other uses, and then stays
    """

    pattern: Callable[..., Any]
    check: Callable[[Match], str | None] | None
    replacement: Callable[..., Any]
    name: str = "rule"
    shared: bool = False

    @cached_property
    def traced(self) -> Pattern:
        return Pattern(self.pattern)

    @cached_property
    def wants(self) -> tuple[str, ...]:
        """The names the replacement asks for."""
        return tuple(inspect.signature(self.replacement).parameters)

    def emit(self, match: Match) -> Any:
        """Run the replacement."""
        known = {**match.bound, "match": match}
        return self.replacement(**{n: known[n] for n in self.wants})

    def __call__(self, program: Program) -> Program:
        return rewrite(program, [self], self.name)


def rewrite(program: Program, rules: Sequence[Rule], name: str) -> Program:
    """Apply rules until none fires. The Program given is not changed.

    name: of the pass, for reports and as `made_by` of new operators
    Raises ProgramError if a replacement changes a dtype or shape, or the rules do not end.
    """
    report = Report(name)
    out = program
    for _ in range(MAX_SWEEPS):
        sweep = _Sweep(out, rules, report)
        if not sweep.by_anchor:
            break
        done = sweep.run()
        if not sweep.count:
            break
        out = done
    publish(report)
    return out


class _Sweep:
    """One walk through a Program, forwards, trying every rule at every operator."""

    def __init__(self, program: Program, rules: Sequence[Rule], report: Report) -> None:
        self.program, self.report, self.rules = program.copy(), report, rules
        self.report.declined = []  # those of the last sweep are told
        self.types = {o.type for o in walk(program.block)}
        self.by_anchor = self._possible()
        self.count = 0
        self.fuel = 100 + 20 * len(program.operators)

    def _possible(self) -> dict[str, list[Rule]]:
        """The rules of which all operators occur, by their anchors."""
        found: dict[str, list[Rule]] = {}
        for rule in self.rules:
            if rule.traced.types <= self.types:
                found.setdefault(rule.traced.root.type, []).append(rule)
        return found

    def meet(self, operators: Sequence[Operator]) -> None:
        """These have been made."""
        new = {o.type for o in operators} - self.types
        if new:
            self.types |= new
            self.by_anchor = self._possible()

    def run(self) -> Program:
        builder = Builder(self.program)
        block, roots = self.program.block, self.program.roots()
        walk = _BlockWalk(self, builder, block, roots, unchanged_state(self.program))
        operators = walk.run()
        out = self.program.replaced(operators, walk.renamed)
        out.block.operators = live(out.block, out.roots()) if self.count else operators
        return out


class _BlockWalk:
    """The walk through one block. Uses are counted, and kept right while operators change."""

    def __init__(
        self,
        sweep: _Sweep,
        builder: Builder,
        block: Block,
        roots: Sequence[Value],
        state: set[Value],
    ) -> None:
        self.sweep, self.builder, self.block, self.state = sweep, builder, block, state
        self.index = Index(block, roots)
        self.more: Counter[Value] = Counter()  # uses won (or lost) since the index was made
        self.producer: dict[Value, Operator] = {}
        self.renamed: dict[Value, Value] = {}
        self.aliases: dict[Value, list[Value]] = {}
        self.dead: set[Operator] = set()
        builder.block = Block()

    @cached_property
    def fixed(self) -> set[Value]:
        return fixed_values(self.block.operators, self.state)

    def uses(self, value: Value) -> int:
        return self.index.use_count(value) + self.more[value]

    def run(self) -> list[Operator]:
        out: list[Operator] = []
        todo = deque(self.block.operators)
        while todo:
            operator = todo.popleft()
            if self.renamed:
                operator = operator.with_inputs(self.renamed)
            if operator.blocks:
                operator = map_blocks(operator, self.inside)
            made = self.try_rules(operator) if operator.type in self.sweep.by_anchor else None
            if made is None:
                out.append(operator)
                for v in operator.outputs:
                    self.producer[v] = operator
            else:
                todo.extendleft(reversed(made))
        return [o for o in out if o not in self.dead]

    def inside(self, block: Block) -> Block:
        """A nested block, rewritten."""
        builder = Builder(self.sweep.program, block, parent=self.builder)
        walk = _BlockWalk(self.sweep, builder, block, block.outputs, set())
        operators = walk.run()
        if operators == block.operators:
            return block
        return Block(list(block.inputs), operators, [walk.renamed.get(v, v) for v in block.outputs])

    def try_rules(self, operator: Operator) -> list[Operator] | None:
        """What replaces the operator, None if no rule fires."""
        reasons: list[str] = []
        faults: list[str] = []
        for rule in self.sweep.by_anchor.get(operator.type, ()):
            for found in rule.traced.matches(operator, self.producer):
                if found.fault:
                    # One operator that has other attributes is not nearly what was meant.
                    faults += [found.fault] if len(found.operators) > 1 else []
                    continue
                match = Match(found, self.producer, self.fixed, self.uses)
                reason = self.refusal(rule, match)
                if reason is None:
                    return self.fire(rule, match)
                reasons += [reason] if reason else []
        told = reasons or faults  # which attribute another rule wants is of no interest then
        self.sweep.report.declined.extend((operator.where(), r) for r in dict.fromkeys(told))
        return None

    def refusal(self, rule: Rule, match: Match) -> str | None:
        """Why the rule does not fire; '' if the reason is of no interest."""
        if not rule.shared:
            within = Counter(v for o in match.operators for v in o.operands)
            for o in match.operators[1:]:
                for v in o.outputs:
                    if self.uses(v) > within[v]:
                        return f"value {v.name} is used elsewhere"
        return rule.check(match) if rule.check is not None else None

    def fire(self, rule: Rule, match: Match) -> list[Operator]:
        """Emit the replacement, and move the uses of what it replaces to it."""
        sweep, anchor = self.sweep, match.operator
        sweep.count += 1
        if sweep.count > sweep.fuel:
            raise ProgramError(f"the rules of pass '{sweep.report.name}' do not end", got=rule.name)
        with self.builder, self.builder.on_behalf_of(anchor, sweep.report.name):
            self.builder.full_precision = any(o.full_precision for o in match.operators)
            result = rule.emit(match)
        made, self.builder.block.operators = self.builder.block.operators, []
        sweep.meet(made)
        self.more.update(v for o in made for v in o.operands)
        given = result if isinstance(result, (tuple, list)) else (result,)
        for i, old in enumerate(anchor.outputs):
            self.rename(rule, anchor, old, given[i] if i < len(given) else None)
        self.bury(match.operators)
        sweep.report.fired.append(f"{anchor.where()} ({rule.name})")
        return made

    def rename(self, rule: Rule, anchor: Operator, old: Value, new: Value | None) -> None:
        uses = self.uses(old)
        if new is None:
            if uses:
                raise ProgramError(
                    f"rule '{rule.name}' gives nothing for '{old.name}', which is used",
                    where=anchor.where(),
                )
            return
        if not _agree(old, new):
            raise ProgramError(
                f"rule '{rule.name}' of pass '{self.sweep.report.name}' changes a value",
                where=anchor.where(),
                expected=Spec.__str__(old),
                got=Spec.__str__(new),
            )
        for alias in (old, *self.aliases.pop(old, ())):  # so that one look-up always suffices
            self.renamed[alias] = new
            self.aliases.setdefault(new, []).append(alias)
        self.more[new] += uses
        self.more[old] -= uses

    def bury(self, operators: Sequence[Operator]) -> None:
        """Remove the anchor, and then what nothing uses any more."""
        anchor, *rest = operators
        self.more.subtract(anchor.operands)
        while unused := [o for o in rest if not any(map(self.uses, o.outputs))]:
            rest = [o for o in rest if o not in unused]
            self.dead.update(unused)
            self.more.subtract(v for o in unused for v in o.operands)


def _agree(a: Spec, b: Spec) -> bool:
    """Same dtype, and shapes not known to differ."""
    return (
        a.dtype == b.dtype
        and a.ndim == b.ndim
        and all(prove_equal(x, y) is not False for x, y in zip(a.shape, b.shape, strict=True))
    )
