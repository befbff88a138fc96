"""ONNX models: `noria.convert.onnx.load("model.onnx")`, and `save(program, path, state)`."""

from noria.convert.onnx import library as _library
from noria.convert.onnx.backend import Backend
from noria.convert.onnx.reader import load
from noria.convert.onnx.writer import save

__all__ = ["Backend", "load", "save"]

_families = _library
