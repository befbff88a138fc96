"""Counters of Caffe2."""

from typing import Any

import numpy as np
import pytest

from noria.convert.caffe2.reader import load
from noria.convert.messages import schema
from noria.core.errors import NoriaError
from noria.runtime.executor import Executor


def net(*operators: tuple[str, list[str], list[str]], outputs: list[str]) -> Any:
    message = schema("caffe2").NetDef(name="counting", external_output=outputs)
    for kind, inputs, made in operators:
        message.op.add(type=kind, input=inputs, output=made)
    return message


def created(count: int) -> Any:
    made = net(("CreateCounter", [], ["c"]), outputs=["c"])
    made.op[0].arg.add(name="init_count").i = count
    return made


def test_each_operator_sees_what_the_one_before_left() -> None:
    made = created(1)
    made.op.extend(
        net(
            ("CountDown", ["c"], ["early"]),
            ("CountDown", ["c"], ["late"]),
            ("CountUp", ["c"], ["before"]),
            ("RetrieveCount", ["c"], ["now"]),
            ("CheckCounterDone", ["c"], ["done"]),
            ("ResetCounter", ["c"], ["old"]),
            outputs=[],
        ).op
    )
    made.op[-1].arg.add(name="init_count").i = 7
    made.op.add(type="RetrieveCount", input=["c"], output=["reset"])
    names = ["early", "late", "before", "now", "done", "old", "reset"]
    made.ClearField("external_output")
    made.external_output.extend(names)
    out = Executor(load(None, made, {})[0]).run({})
    assert [out[n].item() for n in names] == [False, True, -1, 0, True, 0, 7]


def test_a_counter_of_the_init_net_counts_from_run_to_run() -> None:
    predict = net(("CountUp", ["c"], ["before"]), outputs=["before"])
    executor = Executor(load(created(3), predict, {})[0])
    assert [executor.run({})["before"].item() for _ in range(3)] == [3, 4, 5]


def test_a_loop_counts_down_to_its_end() -> None:
    made = created(4)
    made.op.add(type="ConstantFill", output=["go"]).arg.add(name="value").i = 1
    made.op.add(type="ConstantFill", output=["total"]).arg.add(name="value").f = 0.0
    for op in made.op[1:]:
        op.arg.add(name="shape").ints.append(1)
    loop = made.op.add(type="While", input=["go"], output=["total"])
    loop.arg.add(name="loop_net").n.CopyFrom(
        net(
            ("CountDown", ["c"], ["done"]),
            ("Not", ["done"], ["more"]),
            ("Cast", ["more"], ["go_scalar"]),
            ("ExpandDims", ["go_scalar"], ["go"]),
            ("Cast", ["go"], ["one"]),
            ("Add", ["total", "one"], ["total"]),
            outputs=[],
        )
    )
    inner = loop.arg[0].n
    inner.op[2].arg.add(name="to").i = 10
    inner.op[3].arg.add(name="dims").ints.append(0)
    inner.op[4].arg.add(name="to").i = 1
    made.external_output[:] = ["total"]
    out = Executor(load(None, made, {})[0]).run({})
    assert np.array_equal(out["total"], [4.0])


def test_a_counter_does_not_start_below_zero() -> None:
    with pytest.raises(NoriaError, match="0 or more"):
        load(None, created(-1), {})
