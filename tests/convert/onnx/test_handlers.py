"""What a node tells the function that converts it."""

import numpy as np
import pytest

from noria.convert.onnx.handlers import Node, scalar
from noria.core.errors import FormatError


def test_attributes_have_defaults_or_are_missed() -> None:
    node = Node("Gather", None, name="g", outputs=["y", ""], attrs={"axis": 1})  # type: ignore[arg-type]
    assert (node.attr("axis", 0), node.attr("mode", "x")) == (1, "x")
    assert (node.wants(0), node.wants(1), node.wants(2)) == (True, False, False)
    with pytest.raises(FormatError, match="'mode' is missing"):
        node.need("mode")
    with pytest.raises(FormatError, match="graph 'body'"):
        node.graph("body")
    assert str(node) == "Gather 'g'"


def test_a_single_number_is_needed() -> None:
    assert scalar(np.array([3])) == 3
    with pytest.raises(FormatError, match="single number"):
        scalar(np.array([1, 2]))
