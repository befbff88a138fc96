"""The workloads in ONNX Runtime; one module a family, each with `MAKERS`."""
