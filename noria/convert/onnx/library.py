"""Every family of ONNX operators: importing this module fills the table."""
