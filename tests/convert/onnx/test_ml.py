"""Classic machine learning in ONNX models against onnxruntime."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load
from noria.core.errors import FormatError

onnx = pytest.importorskip("onnx")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("f4")
HOLES = X.copy()
HOLES[1, 2] = np.nan
INTEGERS = np.array([[3, 7], [9, 1]])


def floats(count: int, positive: bool = False) -> list[float]:
    numbers = RNG.normal(size=count)
    return (abs(numbers) / 5 if positive else numbers).tolist()


CASES: dict[str, tuple[str, np.ndarray, dict[str, Any]]] = {
    **{f"norm {n}": ("Normalizer", X, {"norm": n}) for n in ("MAX", "L1", "L2")},
    "scaled": ("Scaler", X, {"offset": floats(4), "scale": floats(4)}),
    "zero or one": ("Binarizer", X, {"threshold": 0.2}),
    "holes": (
        "Imputer",
        HOLES,
        {"imputed_value_floats": floats(4), "replaced_value_float": float("nan")},
    ),
    "categories": ("OneHotEncoder", INTEGERS, {"cats_int64s": [1, 3, 9]}),
    "columns": ("FeatureVectorizer", X, {"inputdimensions": [4]}),
    "labels": (
        "LabelEncoder",
        INTEGERS,
        {"keys_int64s": [3, 9, 4], "values_floats": [0.5, 1.5, 2.5], "default_float": -1.0},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_features(same_as_onnxruntime: Any, name: str) -> None:
    op, x, attrs = CASES[name]
    same_as_onnxruntime(op, x, **attrs)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"])
def test_linear_models(same_as_onnxruntime: Any, transform: str) -> None:
    x, how = abs(X) / 10, {"post_transform": transform, "intercepts": [0.1, 0.2]}
    same_as_onnxruntime("LinearRegressor", x, coefficients=floats(8, True), targets=2, **how)
    how |= {"classlabels_ints": [3, 5], "coefficients": floats(8, True)}
    same_as_onnxruntime("LinearClassifier", x, (7, 1), **how)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_one_column_of_scores_for_two_classes(same_as_onnxruntime: Any, transform: str) -> None:
    how = {"coefficients": floats(4), "intercepts": [0.1], "classlabels_ints": [3, 5]}
    same_as_onnxruntime("LinearClassifier", X, (7, 1), post_transform=transform, **how)


def test_labels_that_are_words_are_looked_up_where_the_input_is_known(build: Any) -> None:
    node = onnx.helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_int64s=[1], values_strings=["one"]
    )
    opsets = [onnx.helper.make_opsetid("ai.onnx.ml", 3), onnx.helper.make_opsetid("", 18)]
    count = onnx.helper.make_node(
        "LabelEncoder", ["y"], ["z"], domain="ai.onnx.ml", keys_strings=["one"], values_int64s=[7]
    )
    model = build([node, count], {}, ["z"], {"x": np.array([1, 2])}, opsets=opsets)
    program, state = load(model.SerializeToString())
    assert Predictor(program, state)().tolist() == [7, -1]


def test_scores_by_class_stay_a_matrix(converted: Any) -> None:
    (got,) = converted("ZipMap", X, {"classlabels_int64s": [1, 2, 3, 4]}, (1,))
    np.testing.assert_array_equal(got, X)


def test_what_does_not_exist_is_told(converted: Any) -> None:
    with pytest.raises(FormatError, match="norm"):
        converted("Normalizer", X, {"norm": "L3"}, (1,))
    with pytest.raises(FormatError, match="post_transform"):
        attrs = {"coefficients": floats(4), "post_transform": "BENT"}
        converted("LinearRegressor", X, attrs, (1,))


def test_maps_of_a_classifier_are_its_scores(build: Any) -> None:
    """As scikit-learn's classifiers are exported: scores, their shares, and a map for each row."""
    runtime, node = pytest.importorskip("onnxruntime"), onnx.helper.make_node
    classes = [3, 5, 8]
    nodes = [
        node(
            "LinearClassifier",
            ["x"],
            ["label", "raw"],
            domain="ai.onnx.ml",
            classlabels_ints=classes,
            coefficients=floats(12),
            intercepts=floats(3),
            post_transform="LOGISTIC",
        ),
        node("Normalizer", ["raw"], ["share"], domain="ai.onnx.ml", norm="L1"),
        node("ZipMap", ["share"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=classes),
    ]
    opsets = [onnx.helper.make_opsetid("", 15), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    model = build(nodes, {"x": ("f4", ["N", 4])}, ["label", "maps"], opsets=opsets, ir_version=8)
    label, maps = model.graph.output
    label.CopyFrom(onnx.helper.make_tensor_value_info("label", 7, None))
    kind = onnx.TypeProto()
    kind.sequence_type.elem_type.map_type.key_type = 7
    kind.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = 1
    maps.type.CopyFrom(kind)
    data = model.SerializeToString()
    want = runtime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    program, state = load(data)
    got = Predictor(program, state).run({"x": X})
    assert np.array_equal(got["label"], want[0])
    assert np.allclose(got["maps"], [[m[c] for c in classes] for m in want[1]], atol=1e-6)
