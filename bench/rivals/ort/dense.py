"""Perceptrons in ONNX Runtime."""

from bench.rivals.ort.common import makers

MAKERS = makers("dense")
