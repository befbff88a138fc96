"""Small ONNX models, made with onnx's own helper."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load

onnx = pytest.importorskip("onnx")


def info(name: str, spec: Any) -> Any:
    """A ValueInfoProto from (dtype, shape); from None one without a type."""
    if spec is None:
        return onnx.ValueInfoProto(name=name)
    dtype, shape = spec
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, number, shape)


@pytest.fixture
def run(build: Callable[..., Any]) -> Callable[..., Any]:
    """run(nodes, {name: array}, outputs, symbolic={name: shape}, ...) -> list of outputs."""

    def make(
        nodes: Sequence[Any],
        feeds: dict[str, np.ndarray],
        outputs: Sequence[str],
        weights: dict[str, Any] | None = None,
        symbolic: dict[str, Any] | None = None,
        **how: Any,
    ) -> list[np.ndarray]:
        shapes = {n: a.shape for n, a in feeds.items()} | (symbolic or {})
        inputs = {n: (a.dtype, shapes[n]) for n, a in feeds.items()}
        program, state = load(build(nodes, inputs, outputs, weights, **how).SerializeToString())
        state = {n: state[n] for n in program.state}
        return [Predictor(program, state).run(feeds)[n] for n in outputs]

    return make


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


@pytest.fixture
def in_onnxruntime() -> Callable[[Any, dict[str, Any]], dict[str, np.ndarray]]:
    """in_onnxruntime(bytes or path, feeds): outputs by name; other feeds are left out."""
    ort = pytest.importorskip("onnxruntime")

    def run(model: Any, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        known = {i.name for i in session.get_inputs()}
        results = session.run(None, {n: a for n, a in feeds.items() if n in known})
        return {o.name: r for o, r in zip(session.get_outputs(), results, strict=True)}

    return run


@pytest.fixture
def through_onnx(in_onnxruntime: Any) -> Callable[..., dict[str, np.ndarray]]:
    """through_onnx(program, feeds, state={}, opset=18): written, checked, run by onnxruntime."""
    from noria.convert.onnx.writer import to_model

    def run(
        program: Any, feeds: dict[str, Any], state: dict[str, Any] | None = None, opset: int = 18
    ) -> dict[str, np.ndarray]:
        data = to_model(program, state or {}, opset=opset).SerializeToString()
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
        return in_onnxruntime(data, feeds)

    return run


@pytest.fixture
def same_in_onnx(through_onnx: Any) -> Callable[..., dict[str, np.ndarray]]:
    """same_in_onnx(function, x=array, ...): traced with open sizes, equal in onnxruntime.

    sizes: input -> its shape as traced, default that of the array
    """
    import noria

    def check(
        fn: Callable[..., Any],
        sizes: dict[str, tuple[Any, ...]] | None = None,
        opset: int = 18,
        tol: float = 1e-5,
        **feeds: np.ndarray,
    ) -> dict[str, np.ndarray]:
        shapes = {n: a.shape for n, a in feeds.items()} | (sizes or {})
        specs = {n: noria.spec(*shapes[n], dtype=a.dtype) for n, a in feeds.items()}
        program = noria.trace(fn, **specs)
        executor = noria.Executor(program, seed=1)
        want = executor.run(feeds)
        got = through_onnx(program, feeds, executor.scope.state(), opset)
        assert got.keys() == want.keys()
        for name, array in want.items():
            assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
            np.testing.assert_allclose(got[name], array, rtol=tol, atol=tol)
        return got

    return check


def _ml_model(name: str, x: np.ndarray, attrs: dict[str, Any], kinds: tuple[int, ...]) -> bytes:
    """A model of one operator of ai.onnx.ml. kinds: the element types of the outputs."""
    helper, outputs = onnx.helper, [f"y{i}" for i in range(len(kinds))]
    node = helper.make_node(name, ["x"], outputs, domain="ai.onnx.ml", **attrs)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "model",
        [info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [info(n, kind, None) for n, kind in zip(outputs, kinds, strict=True)],
    )
    opsets = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 15)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture
def converted() -> Callable[..., list[Any]]:
    """converted(name, x, attrs, kinds): the outputs of an operator of ai.onnx.ml."""

    def run(name: str, x: np.ndarray, attrs: dict[str, Any], kinds: tuple[int, ...]) -> list[Any]:
        program, state = load(_ml_model(name, x, attrs, kinds))
        got = Predictor(program, state)(x=x)
        return list(got.values()) if isinstance(got, dict) else [got]

    return run


@pytest.fixture
def same_as_onnxruntime(in_onnxruntime: Any, converted: Any) -> Callable[..., None]:
    """same_as_onnxruntime(name, x, kinds, **attrs): an operator of ai.onnx.ml gives the same."""

    def check(name: str, x: np.ndarray, kinds: tuple[int, ...] = (1,), **attrs: Any) -> None:
        want = in_onnxruntime(_ml_model(name, x, attrs, kinds), {"x": x}).values()
        for a, b in zip(converted(name, x, attrs, kinds), want, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)

    return check
