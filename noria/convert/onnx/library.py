"""Every family of ONNX operators: importing this module fills the table."""

import noria.convert.onnx.math  # noqa: F401
