"""Every family of ONNX operators: importing this module fills the table."""

# ruff: noqa: F401
import noria.convert.onnx.attention
import noria.convert.onnx.conv
import noria.convert.onnx.loss
import noria.convert.onnx.math
import noria.convert.onnx.ml
import noria.convert.onnx.ml_svm
import noria.convert.onnx.ml_trees
import noria.convert.onnx.quantize
import noria.convert.onnx.recurrent
import noria.convert.onnx.signal
import noria.convert.onnx.text
import noria.convert.onnx.training
import noria.convert.onnx.vision
