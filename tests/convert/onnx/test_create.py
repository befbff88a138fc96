"""Values out of nothing, and casts."""

from typing import Any

import numpy as np
import pytest

from noria.convert.handlers import NeedsConstant
from noria.convert.onnx import load
from noria.core.errors import NoriaError

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
X = np.arange(6, dtype="f4").reshape(2, 3)


def test_a_range_as_long_as_the_input(run: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Range", ["zero", "n", "one"], ["rows"]),
        node("Gather", ["x", "rows"], ["y"]),
    ]
    weights = {"zero": np.array(0), "one": np.array(1)}
    (y,) = run(nodes, {"x": X}, ["y"], weights, {"x": ["N", 3]})
    assert np.array_equal(y, X)


def test_casts_to_small_floats_need_what_they_cast(build: Any) -> None:
    nodes = [node("Cast", ["x"], ["y"], to=17), node("Cast", ["y"], ["z"], to=1)]
    model = build(nodes, {"x": ("f4", [2])}, ["z"], opset=19).SerializeToString()
    with pytest.raises(NeedsConstant) as caught:
        load(model)
    assert caught.value.inputs == ("x",)
    program, _ = load(model, {"x": np.array([1.03, 500], "f4")})
    assert not program.inputs


def test_random_numbers_have_the_shape_and_range_asked_for(run: Any) -> None:
    nodes = [
        node("RandomUniformLike", ["x"], ["u"], low=2.0, high=3.0),
        node("Sub", ["x", "x"], ["zero"]),
        node("Add", ["u", "zero"], ["y"]),
    ]
    (y,) = run(nodes, {"x": X}, ["y"], symbolic={"x": ["N", 3]})
    assert y.shape == X.shape
    assert ((y >= 2) & (y < 3)).all()


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, -1])
def test_a_constant_too_large_for_any_memory_is_an_error_not_a_crash(build: Any, size: int) -> None:
    nodes = [node("ConstantOfShape", ["s"], ["c"]), node("Tile", ["one", "s"], ["d"])]
    weights = {"s": np.array([size]), "one": np.ones(1, "f4")}
    with pytest.raises(NoriaError):
        load(build(nodes, {}, ["c", "d"], weights).SerializeToString())
