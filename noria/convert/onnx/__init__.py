"""ONNX models as Programs: `noria.convert.onnx.load("model.onnx")`."""

from noria.convert.onnx import library as _library
from noria.convert.onnx.reader import load

__all__ = ["load"]

_families = _library
