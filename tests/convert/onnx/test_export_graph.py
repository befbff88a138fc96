"""Sizes computed in the model, names, one node for one thing."""

import numpy as np
import pytest

from noria import ops
from noria.convert.onnx.export_graph import Graph, Shared, element_type, linear_form, tensor
from noria.core.dims import dim_max, dim_min, evaluate, parse_dim, symbol
from noria.core.errors import DTypeError, ProgramError
from noria.ir.program import Value

N, T = symbol("N"), symbol("T")


@pytest.mark.parametrize(
    "size",
    [N, 2 * N + 1, N * T - 3, (T - 5) // 2, T % 3, (N + T) // N, dim_max(N, 4), dim_min(T - N, 2)],
    ids=str,
)
@pytest.mark.parametrize("n, t", [(1, 2), (3, 7)])
def test_a_size_is_computed_from_the_shapes_of_inputs(size, n, t, through_onnx):
    import noria

    program = noria.trace(lambda x: {"y": ops.dim_value(dim=size), "same": x}, x=noria.spec(N, T))
    got = through_onnx(program, {"x": np.zeros((n, t), np.float32)})
    assert got["y"] == evaluate(size, {"N": n, "T": t})


def test_an_axis_of_b_plus_1_tells_b():
    assert linear_form(parse_dim("B+1")) == ("B", 1, 1)
    assert linear_form(parse_dim("2*B")) == ("B", 2, 0)
    assert linear_form(parse_dim("B*T")) is None
    assert linear_form(3) is None


def test_equal_nodes_and_constants_are_written_once():
    graph = Graph(Shared(18, ["x"]))
    assert graph.node("Relu", "x") == graph.node("Relu", "x")
    assert graph.node("Elu", "x", alpha=1.0) != graph.node("Elu", "x", alpha=2.0)
    assert graph.ints(1, 2) == graph.ints(1, 2) != graph.constant(np.array([1, 2], np.int32))
    assert len(graph.nodes) == 3


def test_a_size_that_no_shape_tells_is_an_error():
    graph = Graph(Shared(18, []))
    with pytest.raises(ProgramError, match="no shape tells the size 'N'"):
        graph.size(N)


def test_a_size_in_a_loop_is_computed_outside_of_it():
    outer = Graph(Shared(18, ["x"]))
    outer.bind(Value("x", (N,)), "x")
    inner = Graph(outer.shared, outer)
    inner.size(N + 1)
    assert not inner.nodes and [n.op_type for n in outer.nodes] == ["Shape", "Squeeze", "Add"]


def test_arrays_become_tensors_bit_by_bit():
    import ml_dtypes
    import onnx

    messages = Shared(18, []).messages
    for dtype in (np.float32, np.int8, bool, np.float16, ml_dtypes.bfloat16):
        array = np.array([[1, 0, 1]]).astype(dtype)
        data = tensor(messages, "a", array).SerializeToString()
        back = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))
        np.testing.assert_array_equal(back, array)


def test_a_dtype_that_onnx_lacks_is_an_error():
    with pytest.raises(DTypeError, match="no such dtype"):
        element_type("complex64")
