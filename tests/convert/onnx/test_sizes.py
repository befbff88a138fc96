"""Arithmetic on shapes emits nothing."""

from typing import Any

import numpy as np
import pytest

from noria.convert.onnx.handlers import Node
from noria.convert.onnx.sizes import Sizes, fold, tensor
from noria.core.dims import symbol
from noria.core.errors import FormatError

N, T = symbol("N"), symbol("T")
SHAPE = tensor([N, 3, T])


def node(op_type: str, **attrs: Any) -> Node:
    class Frame:
        def const(self, value: Any, what: str) -> np.ndarray:
            if not isinstance(value, np.ndarray):
                raise FormatError(what)
            return value

    return Node(op_type, Frame(), opset=13, attrs=attrs)  # type: ignore[arg-type]


def listed(result: Any) -> Any:
    return result.array.tolist() if isinstance(result, Sizes) else result.tolist()


def test_sizes_that_are_all_known_are_an_array() -> None:
    assert isinstance(tensor([2, 3]), np.ndarray)
    assert isinstance(SHAPE, Sizes)


@pytest.mark.parametrize(
    ("made", "args", "expected"),
    [
        (node("Gather"), [SHAPE, np.array(2)], T),
        (node("Gather"), [SHAPE, np.array([1])], [3]),
        (node("Slice"), [SHAPE, np.array([-2]), np.array([1 << 62])], [3, T]),
        (node("Slice", starts=(0,), ends=(1,)), [SHAPE], [N]),
        (node("Concat", axis=0), [SHAPE, np.array([-1])], [N, 3, T, -1]),
        (node("Mul"), [SHAPE, np.array(2)], [2 * N, 6, 2 * T]),
        (node("Div"), [SHAPE, np.array(2)], [N // 2, 1, T // 2]),
        (node("Equal"), [SHAPE, np.array(-1)], [False] * 3),
        (node("Squeeze"), [tensor([N]), np.array([0])], N),
        (node("Unsqueeze", axes=(0,)), [tensor(N)], [N]),
        (node("ReduceProd", keepdims=0), [SHAPE], 3 * N * T),
        (node("Where"), [np.array([True, False, False]), SHAPE, np.array(7)], [N, 7, 7]),
    ],
)
def test_shape_arithmetic_stays_symbolic(made: Node, args: list[Any], expected: Any) -> None:
    assert listed(fold(made, args)) == expected


@pytest.mark.parametrize(
    ("made", "args"),
    [
        (node("Cast", to=1), [SHAPE]),
        (node("Equal"), [SHAPE, np.array(4)]),
        (node("Sqrt"), [SHAPE]),
        (node("Mul"), [SHAPE, np.array(0.5, "f4")]),
        (node("Div"), [tensor([N - 5]), np.array(2)]),
    ],
)
def test_what_is_no_arithmetic_of_sizes_is_left_to_operators(made: Node, args: list[Any]) -> None:
    assert fold(made, args) is NotImplemented
