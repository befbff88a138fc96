"""Small ONNX models, made with onnx's own helper."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")


def info(name: str, spec: Any) -> Any:
    """A ValueInfoProto from (dtype, shape); from None one without a type."""
    if spec is None:
        return onnx.ValueInfoProto(name=name)
    dtype, shape = spec
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, number, shape)


@pytest.fixture
def build() -> Callable[..., Any]:
    """build(nodes, inputs={name: (dtype, shape)}, outputs=[...], weights={...}) -> ModelProto."""

    def make(
        nodes: Sequence[Any],
        inputs: dict[str, Any],
        outputs: Sequence[str],
        weights: dict[str, Any] | None = None,
        opset: int = 18,
        **model: Any,
    ) -> Any:
        tensors = [onnx.numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(*n) if isinstance(n, tuple) else n for n in nodes],
            "model",
            [info(n, s) for n, s in inputs.items()],
            [info(n, ("f4", None)) for n in outputs],
            tensors,
        )
        opsets = model.pop("opsets", [onnx.helper.make_opsetid("", opset)])
        return onnx.helper.make_model(graph, opset_imports=opsets, **model)

    return make
