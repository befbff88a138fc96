"""Pages about operators."""

import re
from pathlib import Path

import numpy as np

from noria.testing import pages
from noria.testing.case import Case, arr, ints

CASES = [
    Case("softmax", [arr(2, 3)], {"axis": -1}),
    Case("gather", [arr(4, 2), ints(3, high=4)], {"axis": 0}),
    Case("relu", [arr(100, 100)]),
]


def made() -> pages.Pages:
    return pages.pages(CASES, {"numba": {"softmax": ["numba:softmax"]}})


def test_every_operator_has_a_page_and_a_line_in_the_index() -> None:
    found = made()
    assert len(found) == len(pages.OPS.__all__) + 1
    for name in pages.OPS.__all__:
        assert f"[`{name}`]({name}.md)" in found["README.md"]


def test_a_page_tells_schema_kernels_and_source() -> None:
    text = made()["softmax.md"]
    assert "softmax(x, *, axis=-1) -> out" in text
    assert "`numba:softmax`, `reference`" in text
    assert "| gradient | yes |" in text


def test_the_example_prints_what_it_says() -> None:
    text = made()["gather.md"]
    code = re.search(r"```python\n(.*?)```", text, re.S)
    output = re.search(r"Example.*?```text\n(.*?)```", text, re.S)
    assert code and output
    assert pages.printed(code[1]) == output[1]


def test_of_a_case_too_large_to_look_at_the_first_results_are_told() -> None:
    text = made()["relu.md"]
    assert "rng.uniform(-2.0, 2.0, (100, 100))" in text
    assert "(100, 100) [" in text


def test_last_digits_may_differ_and_nothing_else() -> None:
    assert pages.same("a [1.0001  2.] b", "a [1.0002 2.] b")
    assert not pages.same("a [1.0 2.] b", "a [1.1 2.] b")
    assert not pages.same("a [1.0 2.] b", "a [1.0 2. 3.] b")
    assert not pages.same("a 1.0", "c 1.0")


def test_numbers_without_a_literal_are_no_example() -> None:
    assert pages.example("relu", [Case("relu", [np.array([np.inf] * 4, np.float32)])]) is None


def test_pages_of_operators_that_are_gone_are_removed(tmp_path: Path) -> None:
    (tmp_path / "gone.md").write_text("old")
    pages.write(tmp_path, {"new.md": "text"})
    assert [p.name for p in tmp_path.iterdir()] == ["new.md"]
