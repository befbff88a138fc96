"""Control flow of ONNX, decided when a model is converted or when it runs."""

from typing import Any

import numpy as np
import pytest

from noria.convert.onnx import load

onnx = pytest.importorskip("onnx")
node, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
F, B, I = 1, 9, 7


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Any:
    made = [tensor(n, k, None) for n, k in inputs], [tensor(n, k, None) for n, k in outputs]
    return onnx.helper.make_graph(nodes, "body", *made)


def test_a_branch_is_chosen_by_data_and_sees_what_is_around_it(run: Any) -> None:
    double = graph([node("Add", ["x", "x"], ["a"])], [], [("a", F)])
    negate = graph([node("Neg", ["x"], ["b"])], [], [("b", F)])
    nodes = [node("If", ["c"], ["y"], then_branch=double, else_branch=negate)]
    x = np.array([1, 2], "f4")
    for flag, expected in ((True, [2, 4]), (False, [-1, -2])):
        (y,) = run(nodes, {"x": x, "c": np.array(flag)}, ["y"], symbolic={"x": ["N"]})
        assert y.tolist() == expected


def halving() -> Any:
    """x / 2 as long as it stays above 1; each x is given too."""
    nodes = [
        node("Mul", ["x_in", "half"], ["x_out"]),
        node("Greater", ["x_out", "one"], ["going"]),
        node("Identity", ["x_out"], ["row"]),
    ]
    inputs = [("step", I), ("c", B), ("x_in", F)]
    return graph(nodes, inputs, [("going", B), ("x_out", F), ("row", F)])


NUMBERS = {"half": np.array(0.5, "f4"), "one": np.array(1, "f4")}


@pytest.mark.parametrize("limit", [3, 40, -1])
def test_a_loop_ends_by_data_and_gives_its_steps(run: Any, limit: int) -> None:
    nodes = [node("Loop", ["m", "", "x"], ["last", "rows"], body=halving())]
    weights = NUMBERS | {"m": np.array(limit)}
    last, rows = run(nodes, {"x": np.array(20, "f4")}, ["last", "rows"], weights)
    want = [10, 5, 2.5, 1.25, 0.625][: max(limit, 0)]
    assert rows.tolist() == want
    assert last == [20, *want][-1]


def test_a_loop_of_constants_is_computed_at_once(build: Any, run: Any) -> None:
    nodes = [node("Loop", ["", "yes", "x0"], ["last", "rows"], body=halving())]
    weights = NUMBERS | {"yes": np.array(True), "x0": np.array(8, "f4")}
    last, rows = run(nodes, {}, ["last", "rows"], weights)
    assert (last, rows.tolist()) == (1, [4, 2, 1])


def test_a_loop_whose_trip_count_is_an_input(run: Any) -> None:
    body = graph(
        [node("Add", ["x_in", "x_in"], ["x_out"]), node("Identity", ["c"], ["going"])],
        [("step", I), ("c", B), ("x_in", F)],
        [("going", B), ("x_out", F)],
    )
    nodes = [node("Loop", ["m", "", "x"], ["last"], body=body)]
    for count in (0, 5):
        feeds = {"x": np.array([1.5], "f4"), "m": np.array(count)}
        (last,) = run(nodes, feeds, ["last"])
        assert last.tolist() == [1.5 * 2**count]


def test_a_scan_backwards_along_a_symbolic_axis(run: Any) -> None:
    body = graph(
        [node("Add", ["s", "x"], ["t"]), node("Identity", ["t"], ["row"])],
        [("s", F), ("x", F)],
        [("t", F), ("row", F)],
    )
    back = {"scan_input_directions": [1], "scan_output_directions": [1], "scan_input_axes": [1]}
    made = node("Scan", ["start", "xs"], ["last", "rows"], body=body, num_scan_inputs=1, **back)
    xs = np.array([[1, 2, 3], [4, 5, 6]], "f4")
    feeds = {"start": np.zeros(2, "f4"), "xs": xs}
    last, rows = run([made], feeds, ["last", "rows"], symbolic={"xs": [2, "T"]})
    assert last.tolist() == [6, 15]
    assert rows.tolist() == [[6, 15], [5, 11], [3, 6]]


def test_a_loop_without_end_is_not_followed(build: Any) -> None:
    body = graph(
        [node("Add", ["x_in", "x_in"], ["x_out"]), node("Identity", ["c"], ["going"])],
        [("step", I), ("c", B), ("x_in", F)],
        [("going", B), ("x_out", F)],
    )
    nodes = [node("Loop", ["m", "", "x0"], ["last"], body=body)]
    weights = {"m": np.array(1 << 62), "x0": np.array(8, "f4")}
    program, _ = load(build(nodes, {}, ["last"], weights).SerializeToString())
    assert "scan" in [o.type for o in program.operators]
