"""Written examples are of operators, and run."""

import pytest

from noria.testing import examples, pages


@pytest.mark.parametrize("name", sorted(examples.EXAMPLES))
def test_an_example_runs_and_prints_something(name: str) -> None:
    assert name in pages.OPS.__all__
    text = pages.written(name)
    assert text is not None
    assert f"ops.{name}(" in text
    assert "nan" not in text.split("```text")[1]
