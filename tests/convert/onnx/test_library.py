"""The families of ONNX operators."""

from noria.convert.onnx import library
from noria.convert.onnx.handlers import onnx_op


def test_the_library_fills_the_table() -> None:
    assert library.__doc__
    assert {"Add", "MatMul", "Relu"} <= set(onnx_op.names())
