"""Operators of ai.onnx.ml on numbers; labels that are strings work where the input is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.lookup import lookup as lookup_op

ML = "ai.onnx.ml"

# ---- features ----------------------------------------------------------------------------------


def single(x: Any) -> Any:
    return o.cast(x, dtype="float32")


@onnx_op("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(node: Node, x: Any, ids: Any) -> Any:
    """The columns at `ids`; of a vector a matrix of one row."""
    ids = o.reshape(ids, shape=(-1,))
    rows = o.reshape(x, shape=(1, x.shape[0])) if len(x.shape) == 1 else x
    return o.gather(rows, ids, axis=-1)


@onnx_op("Binarizer", domain=ML)
def binarizer(node: Node, x: Any) -> Any:
    return o.cast(o.greater(x, node.attr("threshold", 0.0)), dtype=str(x.dtype))


@onnx_op("Scaler", domain=ML)
def scaler(node: Node, x: Any) -> Any:
    x = single(x)
    if node.attr("offset"):
        x = o.sub(x, floats_of(node, "offset"))
    return o.mul(x, floats_of(node, "scale")) if node.attr("scale") else x


def floats_of(node: Node, name: str) -> np.ndarray:
    return np.asarray(node.attr(name) or (), np.float32)


@onnx_op("Normalizer", domain=ML)
def normalizer(node: Node, x: Any) -> Any:
    x, kind = single(x), str(node.attr("norm", "MAX"))
    if kind == "MAX":
        divisor = o.reduce_max(x, axis=-1, keepdims=True)
    elif kind == "L1":
        divisor = o.reduce_sum(o.abs(x), axis=-1, keepdims=True)
    elif kind == "L2":
        divisor = o.sqrt(o.reduce_sum(o.square(x), axis=-1, keepdims=True))
    else:
        raise FormatError("no such norm", where=str(node), expected="MAX, L1 or L2", got=kind)
    return o.div(x, o.where(o.equal(divisor, 0.0), 1.0, divisor))


@onnx_op("Imputer", domain=ML)
def imputer(node: Node, x: Any) -> Any:
    whole = node.attr("imputed_value_int64s") is not None
    names = ("int64", "int64s") if whole else ("float", "floats")
    dtype = np.dtype(str(x.dtype))
    filled = np.asarray(node.need(f"imputed_value_{names[1]}"), dtype)
    replaced = node.attr(f"replaced_value_{names[0]}", 0)
    if not whole and math.isnan(replaced):
        missing = o.isnan(x)
    else:
        missing = o.equal(x, dtype.type(replaced))
    return o.where(missing, filled, x)


@onnx_op("FeatureVectorizer", domain=ML)
def feature_vectorizer(node: Node, *xs: Any) -> Any:
    """inputdimensions: how many columns of each input there are; further ones are zeros."""
    sizes = node.attr("inputdimensions") or [None] * len(xs)
    if len(sizes) != len(xs):
        raise FormatError(
            "inputdimensions has one size for each input", where=str(node), got=repr(sizes)
        )
    parts = []
    for x, size in zip(xs, sizes, strict=True):
        rows = single(o.reshape(x, shape=(1, x.shape[0])) if len(x.shape) == 1 else x)
        width = rows.shape[1]
        if size is not None and isinstance(width, int) and width > size:
            rows = o.slice(rows, axes=(1,), starts=(0,), stops=(size,))
        elif size is not None and isinstance(width, int) and width < size:
            rows = o.pad(rows, pads=((0, 0), (0, size - width)))
        parts.append(rows)
    return o.concat(*parts, axis=1)


@onnx_op("OneHotEncoder", domain=ML)
def one_hot_encoder(node: Node, x: Any) -> Any:
    texts = node.attr("cats_strings")
    if texts:
        x, keys = node.const(x, "the categories"), np.asarray(texts, object)
        known = np.asarray(x)[..., None] == keys
    else:
        keys = np.asarray(node.need("cats_int64s"), np.int64)
        known = o.equal(o.unsqueeze(o.cast(x, dtype="int64"), axis=len(x.shape)), keys)
    if not node.attr("zeros", 1) and isinstance(known, np.ndarray) and not known.any(-1).all():
        raise FormatError("a category is not known", where=str(node))
    return known.astype(np.float32) if texts else o.cast(known, dtype="float32")


# ---- labels ------------------------------------------------------------------------------------

_DEFAULTS: dict[str, Any] = {"strings": "_Unused", "int64s": -1, "floats": -0.0}
_KINDS = {"strings": object, "int64s": np.int64, "floats": np.float32}


def _table(node: Node, name: str) -> tuple[np.ndarray, str]:
    """keys_* or values_* and which of them it is."""
    for kind, dtype in _KINDS.items():
        found = node.attr(f"{name}_{kind}")
        if found:
            return np.asarray(found, dtype), kind
    found = node.attr(f"{name}_tensor")
    if found is None:
        raise FormatError(f"{name}_* is missing", where=str(node))
    return np.asarray(found).reshape(-1), "tensor"


@onnx_op("LabelEncoder", domain=ML, since=2)
def label_encoder(node: Node, x: Any) -> Any:
    keys, _ = _table(node, "keys")
    values, kind = _table(node, "values")
    if len(keys) != len(values):
        raise FormatError("keys and values must be as many", where=str(node))
    given = node.attr("default_tensor")
    if kind != "tensor":
        given = node.attr(f"default_{kind[:-1]}", _DEFAULTS[kind])
    elif given is None:
        given = "_Unused" if values.dtype == object else -1 if values.dtype.kind in "iu" else -0.0
    default = np.asarray(given).reshape(-1)[0]
    if object in (keys.dtype, values.dtype):
        return _by_text(node, x, keys, values, default)
    dtype = np.dtype(str(x.dtype))
    return lookup_op(x, keys.astype(dtype), values, np.asarray(default, values.dtype))


def _by_text(node: Node, x: Any, keys: np.ndarray, values: np.ndarray, default: Any) -> Any:
    """Strings on one side: the input must be known."""
    x = node.const(x, "the labels")
    table = {_key(k): v for k, v in zip(keys.tolist(), values.tolist(), strict=True)}
    out = [table.get(_key(v), default) for v in np.ravel(x).tolist()]
    return np.array(out, dtype=values.dtype).reshape(np.shape(x))


def _key(value: Any) -> Any:
    return "nan" if isinstance(value, float) and math.isnan(value) else value


@onnx_op("LabelEncoder", domain=ML, since=1)
def label_encoder_1(node: Node, x: Any) -> Any:
    """classes_strings: strings and their places."""
    classes = np.asarray(node.need("classes_strings"), object)
    x, places = node.const(x, "the labels"), np.arange(len(classes))
    if x.dtype == object:
        return _by_text(node, x, classes, places, node.attr("default_int64", -1))
    return _by_text(node, x, places, classes, node.attr("default_string", "_Unused"))


@onnx_op("CategoryMapper", domain=ML)
def category_mapper(node: Node, x: Any) -> Any:
    texts = np.asarray(node.need("cats_strings"), object)
    numbers = np.asarray(node.need("cats_int64s"), np.int64)
    x = node.const(x, "the categories")
    if x.dtype == object:
        return _by_text(node, x, texts, numbers, node.attr("default_int64", -1))
    return _by_text(node, x, numbers, texts, node.attr("default_string", "_Unused"))


@onnx_op("ZipMap", domain=ML)
def zip_map(node: Node, x: Any) -> Any:
    """Programs have no maps: scores stay a matrix, with a column for each of classlabels_*."""
    return x


# ---- scores ------------------------------------------------------------------------------------


def transformed(node: Node, scores: Any) -> Any:
    """Scores [N, C] after `post_transform`, which is a name or, of newer operators, a number."""
    names = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
    kind = node.attr("post_transform", "NONE")
    kind = names[kind] if isinstance(kind, int) and 0 <= kind < len(names) else kind
    if kind == "NONE":
        return scores
    if kind == "SOFTMAX":
        return o.softmax(scores, axis=-1)
    if kind == "LOGISTIC":
        return o.sigmoid(scores)
    if kind == "SOFTMAX_ZERO":
        zero = o.equal(scores, 0.0)
        shares = o.softmax(o.where(zero, -math.inf, scores), axis=-1)
        return o.where(zero, 0.0, shares)
    if kind == "PROBIT":
        return _probit(scores)
    raise FormatError(
        "no such post_transform", where=str(node), expected=", ".join(names), got=repr(kind)
    )


def _probit(p: Any) -> Any:
    """sqrt(2) erfinv(2 p - 1), by the formula that runtimes use.  (Winitzki, 2008)"""
    x = o.sub(o.mul(p, 2.0), 1.0)
    log = o.log(o.mul(o.sub(1.0, x), o.add(1.0, x)))
    half = o.add(o.mul(log, 0.5), 2 / (math.pi * 0.147))
    root = o.sqrt(o.sub(o.square(half), o.div(log, 0.147)))
    return o.mul(o.mul(o.sign(x), o.sqrt(o.sub(root, half))), math.sqrt(2))


def labelled(node: Node, place: Any, *names: str) -> Any:
    """The labels of classes, by their places [N]: int64. Strings only where places are known."""
    for name in names:
        found = node.attr(name)
        if found:
            labels = np.asarray(found, object if isinstance(found[0], (str, bytes)) else np.int64)
            if labels.dtype != object:
                return o.gather(labels, place, axis=0)
            return labels[node.const(place, "the classes")]
    return place


def matrix_of(node: Node, rows: int, name: str = "coefficients") -> np.ndarray:
    flat = np.asarray(node.need(name), np.float32)
    if rows < 1 or len(flat) % rows:
        raise FormatError(f"{name} do not fit", where=str(node), got=f"{len(flat)} in {rows} rows")
    return flat.reshape(rows, -1)


@onnx_op("LinearRegressor", domain=ML)
def linear_regressor(node: Node, x: Any) -> Any:
    targets = int(node.attr("targets", 1))
    bias = floats_of(node, "intercepts") if node.attr("intercepts") else None
    return transformed(node, o.linear(single(x), matrix_of(node, targets), bias))


@onnx_op("LinearClassifier", domain=ML)
def linear_classifier(node: Node, x: Any) -> tuple[Any, Any]:
    bias = floats_of(node, "intercepts")
    names = ("classlabels_ints", "classlabels_strings")
    labels = next((node.attr(n) for n in names if node.attr(n)), ())
    rows = len(bias) or len(labels)
    scores = o.linear(single(x), matrix_of(node, rows), bias if len(bias) else None)
    return classified(node, scores, len(labels), names)


def classified(
    node: Node,
    scores: Any,
    classes: int,
    names: tuple[str, ...],
    *,
    threshold: float = 0.0,
    shares: bool = True,
) -> tuple[Any, Any]:
    """(labels, scores) of scores [N, C], where one column may stand for two classes: then the
    scores are 1 - s and s, or where s may be negative and is to be transformed, -s and s."""
    if scores.shape[1] == 1 and classes == 2:
        second = o.greater(o.squeeze(scores, axis=1), threshold)
        place = o.cast(second, dtype="int64")
        plain = node.attr("post_transform", "NONE") == "NONE"
        first = o.sub(1.0, scores) if shares and plain else o.neg(scores)
        scores = o.concat(first, scores, axis=1)
    else:
        place = o.argmax(scores, axis=1)
    wanted = node.wants(0) or not node.outputs
    return labelled(node, place, *names) if wanted else None, transformed(node, scores)
