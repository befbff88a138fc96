"""Registration of handlers, and what is said of operators that have none."""

import pytest

from noria.convert.handlers import Handlers, NeedsConstant, UnsupportedOperators
from noria.core.errors import ProgramError


def table() -> Handlers:
    handlers = Handlers("Toy")
    handlers("Relu", "Relu6")(lambda node, x: "first")
    handlers("Relu", since=6)(lambda node, x: "sixth")
    handlers("Fancy", domain="lab")(lambda node, x: "fancy")
    return handlers


@pytest.mark.parametrize(
    ("version", "expected"), [(1, "first"), (5, "first"), (6, "sixth"), (20, "sixth")]
)
def test_the_newest_handler_not_newer_than_the_model_serves(version: int, expected: str) -> None:
    fn = table().find("Relu", version=version)
    assert fn is not None
    assert fn(None, None) == expected


def test_an_operator_is_looked_for_in_its_domain_only() -> None:
    assert table().find("Fancy") is None
    assert table().find("Fancy", domain="lab") is not None
    assert list(table().names()) == ["Relu", "Relu6"]


def test_a_handler_is_registered_once() -> None:
    with pytest.raises(ProgramError, match="Relu, since 6"):
        table()("Relu", since=6)(lambda node, x: None)


def test_all_missing_operators_are_told_at_once_with_the_nearest() -> None:
    used = [
        ("", "Relu", 3, "a"),
        ("", "Rely", 3, "b"),
        ("", "Rely", 3, "c"),
        ("lab", "Qqq", 1, "d"),
    ]
    with pytest.raises(UnsupportedOperators) as caught:
        table().require(used)
    assert caught.value.operators == ["Rely", "lab.Qqq"]
    text = str(caught.value)
    assert "Rely at b and 1 more (nearest: Relu" in text
    assert "lab.Qqq at d" in text


def test_a_needed_constant_is_told_with_the_inputs_that_decide_it() -> None:
    assert 'constants={"axes": ...}' in str(NeedsConstant("v", "the axes", ["axes"]))


def test_the_reason_why_an_operator_is_refused_is_told() -> None:
    handlers = table()
    handlers.refuse("it reads files", "Load")
    with pytest.raises(UnsupportedOperators, match="it reads files"):
        handlers.require([("", "Load", 1, "a")])
