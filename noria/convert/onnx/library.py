"""Every family of ONNX operators: importing this module fills the table."""

# ruff: noqa: F401
import noria.convert.onnx.activation
import noria.convert.onnx.attention
import noria.convert.onnx.control
import noria.convert.onnx.conv
import noria.convert.onnx.create
import noria.convert.onnx.detection
import noria.convert.onnx.gradient
import noria.convert.onnx.index
import noria.convert.onnx.linalg
import noria.convert.onnx.loss
import noria.convert.onnx.math
import noria.convert.onnx.ml
import noria.convert.onnx.ml_svm
import noria.convert.onnx.ml_trees
import noria.convert.onnx.norm
import noria.convert.onnx.quantize
import noria.convert.onnx.recurrent
import noria.convert.onnx.reduce
import noria.convert.onnx.sequence
import noria.convert.onnx.shape
import noria.convert.onnx.signal
import noria.convert.onnx.text
import noria.convert.onnx.training
import noria.convert.onnx.vision
