"""Stacked recurrent layers become one operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noria.ir.index import Index
from noria.ir.nested import has_effect
from noria.ir.program import Block, Operator, Program, Value
from noria.passes.report import Report, publish

NAME = "fuse_recurrent"


def fuse_recurrent(program: Program) -> Program:
    """LSTM layers, each over the outputs of the one below, become one `fused_recurrent`, whose
    kernel runs them one after the other or side by side, as is faster, and keeps of them only what
    somebody reads: where no gradient is wanted, no gates. So does a layer alone, for that.

    Only what a product brings from layer to layer may be between them, used by nobody else.

    Given:
        program p {
          input x: float32[N, 4]
          state u: float32[4, 1] = fill(value=0.0)
          state v: float32[4, 1] = fill(value=0.0)
          state w: float32[4, 1] = fill(value=0.0)
          n: int64[N+1] = arange(stop={N+1})
          h0, c0, g0: float32[N, 1], float32[N, 1], float32[N, 4] = lstm(x, u, n)
          linear: float32[N, 4] = linear(h0, v)
          h1, c1, g1: float32[N, 1], float32[N, 1], float32[N, 4] = lstm(linear, w, n)
          output y = h1
        }
    Result:
        program p {
          input x: float32[N, 4]
          state u: float32[4, 1] = fill(value=0.0)
          state v: float32[4, 1] = fill(value=0.0)
          state w: float32[4, 1] = fill(value=0.0)
          n: int64[N+1] = arange(stop={N+1})
          h1: float32[N, 1] = fused_recurrent(x, u, n, v, w) {
            body(x: float32[N, 4], u: float32[4, 1], n: int64[N+1], v: float32[4, 1],
                 w: float32[4, 1]) {
              h0, c0, g0: float32[N, 1], float32[N, 1], float32[N, 4] = lstm(x, u, n)
              linear: float32[N, 4] = linear(h0, v)
              h1, c1, g1: float32[N, 1], float32[N, 1], float32[N, 4] = lstm(linear, w, n)
              return h1
            }
          }
          output y = h1
        }
    """
    report = Report(NAME)
    out, index = program.copy(), Index(program.block, program.roots())
    for chain in _chains(program, index, report):
        later = _later(out.operators, chain)
        if later is None or any(map(has_effect, later)):
            report.declined.append((chain[-1].where(), "what is between must run between"))
            continue
        out.block.operators = _replaced(out, chain, later)
        report.fired.append(f"{chain[-1].where()}: {(len(chain) + 1) // 2} layers")
    for operator in out.operators:
        if operator.type == "lstm" and _forward_only(operator, index):
            out.block.operators = _replaced(out, [operator], [])
            report.fired.append(f"{operator.where()}: outputs alone")
    publish(report)
    return out


def _chains(program: Program, index: Index, report: Report) -> list[list[Operator]]:
    """[lstm, linear, lstm, ...], each as long as it can be."""
    above: dict[Operator, tuple[Operator, Operator]] = {}
    for upper in program.operators:
        if upper.type != "lstm":
            continue
        between = index.producer.get(upper.operands[0])
        if between is None or between.type != "linear":
            continue
        lower = index.producer.get(between.operands[0])
        if lower is None or lower.type != "lstm" or lower.outputs[0] is not between.inputs[0]:
            continue
        reason = _apart(lower, between, upper)
        if index.use_count(between.outputs[0]) > 1:
            reason = "what is between the layers has another use"
        elif lower in above:
            reason = "another layer is above already"
        if reason:
            report.declined.append((upper.where(), reason))
        else:
            above[lower] = between, upper
    started = {upper for _, upper in above.values()}
    return [_climb(first, above) for first in above if first not in started]


def _forward_only(operator: Operator, index: Index) -> bool:
    """Whether nobody reads the gates of an LSTM layer."""
    if _peepholes(operator):
        return False
    return operator.outputs[2].dtype == "float32" and index.use_count(operator.outputs[2]) == 0


def _peepholes(operator: Operator) -> bool:
    """Whether the gates of an LSTM layer look at its cells, which the fused layers have not."""
    return len(operator.inputs) > 5 and operator.inputs[5] is not None


def _climb(first: Operator, above: dict[Operator, tuple[Operator, Operator]]) -> list[Operator]:
    chain = [first]
    while chain[-1] in above:
        chain += above[chain[-1]]
    return chain


def _apart(lower: Operator, between: Operator, upper: Operator) -> str:
    """Why two layers cannot run side by side; '' if they can."""
    if any(v is not None and v.dtype != "float32" for v in (*between.inputs, upper.outputs[0])):
        return "not float32"
    if _peepholes(lower) or _peepholes(upper):
        return "a layer has peepholes"
    if lower.inputs[2] is not upper.inputs[2]:
        return "the layers have different rows"
    if lower.attrs["reverse"] or upper.attrs["reverse"]:
        return "a layer runs backwards"
    return ""


def _later(operators: Sequence[Operator], chain: Sequence[Operator]) -> list[Operator] | None:
    """Operators before the end of the chain that need what it makes, and so will come after it;
    None if the chain itself needs one of them."""
    made = {v for member in chain for v in member.outputs}
    late: dict[Operator, None] = {}
    for operator in operators[: operators.index(chain[-1]) + 1]:
        if operator in chain:
            if any(v in o.outputs for o in late for v in operator.operands):
                return None
        elif any(v in made for v in operator.operands):
            late[operator] = None
            made.update(operator.outputs)
    return list(late)


def _replaced(
    program: Program, chain: Sequence[Operator], later: Sequence[Operator]
) -> list[Operator]:
    """The operators with one in the place of the last of the chain, and the later ones behind."""
    operators = program.operators
    apart = {*chain, *later}
    end = operators.index(chain[-1])
    before = [operator for operator in operators[:end] if operator not in apart]
    others = [operator for operator in operators if operator not in chain]
    used = {v for operator in others for v in operator.operands} | set(program.roots())
    return [*before, _fused(chain, used), *later, *operators[end + 1 :]]


def _fused(chain: Sequence[Operator], used: set[Value]) -> Operator:
    seen: dict[Value, Value] = {}
    body, inputs = Block(), []
    for operator in chain:
        for v in operator.operands:
            if v not in seen:
                seen[v] = Value(v.name, v.shape, v.dtype)
                body.inputs.append(seen[v])
                inputs.append(v)
        seen.update((v, Value(v.name, v.shape, v.dtype)) for v in operator.outputs)
        ins = tuple(None if v is None else seen[v] for v in operator.inputs)
        outs = tuple(seen[v] for v in operator.outputs)
        body.operators.append(replace(operator, inputs=ins, outputs=outs))
    outputs = [v for operator in chain for v in operator.outputs if v in used]
    body.outputs = [seen[v] for v in outputs]
    blocks, last = {"body": body}, chain[-1]
    return Operator("fused_recurrent", tuple(inputs), tuple(outputs), {}, blocks, last.source, NAME)
