"""Nets within nets in Caffe2."""

from typing import Any

import numpy as np
import pytest

from noria.convert.caffe2.reader import load
from noria.convert.messages import schema
from noria.core.errors import ArgumentError
from noria.ir.program import Spec
from noria.runtime.executor import Executor


def net(*steps: tuple[str, str, str], **args: float) -> Any:
    """A net of (operator, inputs, outputs); the arguments go to all of them."""
    out = schema("caffe2").NetDef()
    for kind, inputs, outputs in steps:
        message = out.op.add(type=kind, input=inputs.split(), output=outputs.split())
        for name, value in args.items():
            message.arg.add(name=name).f = value
    return out


def run(outer: Any, outputs: str, **feeds: Any) -> list[np.ndarray]:
    outer.external_output.extend(outputs.split())
    arrays = {k: np.asarray(v) for k, v in feeds.items()}
    program, _ = load(None, outer, {k: Spec(a.shape, a.dtype) for k, a in arrays.items()})
    found = Executor(program).run(arrays)
    return [found[name] for name in outputs.split()]


X = np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize(("flag", "want"), [(True, [3, 6]), (False, [-1, -2])])
def test_one_of_two_nets_runs(flag: bool, want: list[float]) -> None:
    outer = net(("If", "flag x", "y"))
    outer.op[0].arg.add(name="then_net").n.CopyFrom(net(("Scale", "x", "y"), scale=3.0))
    outer.op[0].arg.add(name="else_net").n.CopyFrom(net(("Negative", "x", "y")))
    assert run(outer, "y", flag=flag, x=X)[0].tolist() == want


def test_an_output_of_one_branch_alone_is_refused() -> None:
    outer = net(("If", "flag x", "y"))
    outer.op[0].arg.add(name="then_net").n.CopyFrom(net(("Negative", "x", "y")))
    with pytest.raises(ArgumentError, match="only one branch"):
        run(outer, "y", flag=True, x=X)


def test_a_loop_assigns_blobs_of_the_outer_net() -> None:
    outer = net(("GT", "limit x", "flag"), ("While", "flag", "x"), ("Negative", "x", "y"))
    outer.op[1].arg.add(name="loop_net").n.CopyFrom(net(("Add", "x x", "x")))
    outer.op[1].arg.add(name="cond_net").n.CopyFrom(net(("GT", "limit x", "flag")))
    assert run(outer, "y x", limit=np.float32(20), x=np.float32(3)) == [-24, 24]


def test_a_net_may_have_blobs_of_its_own() -> None:
    outer = net(("Do", "x ws", "y ws"))
    inner = net(("Negative", "a", "t"), ("Add", "t t", "b"))
    outer.op[0].arg.add(name="net").n.CopyFrom(inner)
    outer.op[0].arg.add(name="inner_blobs").strings.extend([b"a", b"b"])
    outer.op[0].arg.add(name="outer_blobs_idx").ints.extend([0, 1])
    outer.op.insert(0, net(("CreateScope", "", "ws")).op[0])
    assert run(outer, "y", x=X)[0].tolist() == [-2, -4]


@pytest.mark.parametrize(("trips", "limit", "want"), [(4, 99, 4), (9, 8, 4), (0, 99, 0)])
def test_scanned_outputs_are_stacked(trips: int, limit: int, want: int) -> None:
    body = net(
        ("Add", "a b", "c"), ("Copy", "c", "s"), ("LT", "c limit", "more"), ("Copy", "b", "old")
    )
    body.external_input.extend(["i", "flag", "a", "b", "limit"])
    body.external_output.extend(["more", "old", "c", "s"])
    outer = net(("ONNXWhile", "trips flag a b", "a2 b2 all"))
    message = outer.op[0]
    message.arg.add(name="body").n.CopyFrom(body)
    for name in ("has_trip_count", "has_cond"):
        message.arg.add(name=name).i = 1
    outer.external_input.extend(["trips", "flag", "a", "b", "limit"])
    outer.external_output.extend(["b2", "all"])
    one = np.ones(1, np.float32)
    feeds = {"flag": np.array(True), "a": one, "b": one, "limit": np.full(1, limit, np.float32)}
    specs = {k: Spec(a.shape, a.dtype) for k, a in feeds.items()}
    program, _ = load(None, outer, specs, {"trips": np.int64(trips)})
    found = Executor(program).run(feeds)
    series = [1, 1]
    while len(series) < want + 2:
        series.append(series[-1] + series[-2])
    assert found["b2"].tolist() == series[-1:] and found["all"].ravel().tolist() == series[2:]
