"""The table of conformance, and how tests of models become part of it."""

import textwrap
from pathlib import Path

import pytest

from noria.testing import conformance, onnx_suite
from noria.testing.suite import SuiteResult


def results() -> dict[str, SuiteResult]:
    wrong = [{"name": "relu: a|b", "reason": "x < y"}]
    return {
        onnx_suite.FLOATS: SuiteResult(97, 98, wrong),
        onnx_suite.INTEGERS: SuiteResult(2, 2),
        onnx_suite.SMALL: SuiteResult(0, 3),
        "Some model": SuiteResult(1, 2, [{"name": "m", "reason": "not run: no network"}]),
    }


def test_suites_of_one_goal_are_added_up_and_judged() -> None:
    text = conformance.table(results())
    assert "| ONNX node tests: float, integer, bool | 99 | 100 | 99.0 % | 98 % | reached |" in text
    assert "| 0 | 3 | 0.0 % | counted |  |" in text
    assert "| Some model | 1 | 2 | 50.0 % | 100 % | **missed** |" in text


def test_failures_are_told_by_name_with_their_reason() -> None:
    text = "\n".join(conformance.failures(results()))
    assert "- `relu: a|b`: x &lt; y" in text
    assert "not run: no network" in text


def test_disputed_cases_are_told_why() -> None:
    name = "softmax_with_cross_entropy: t.TestOpIgnoreIndexAxis1.test_check_grad"
    assert "gradient" in (conformance.dispute(name) or "")
    assert conformance.dispute("relu: something") is None


def test_the_page_has_the_table_the_times_and_what_is_left_out() -> None:
    text = conformance.page(results(), {"ONNX": 61.0})
    assert "ONNX 61 s" in text
    assert "`listen_and_serv`" in text and "`CreateBlobsQueue`" in text
    assert "### Some model" in text


def test_marked_tests_become_suites(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = suite(title): a suite\n")
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import pytest

            @pytest.mark.suite("A model")
            @pytest.mark.parametrize("n", [1, 2])
            def test_equal(n):
                assert n == 1

            @pytest.mark.suite("Another")
            def test_absent():
                pytest.skip("no network")

            def test_of_no_suite():
                assert False
            """
        )
    )
    found = conformance.of_models(tmp_path)
    assert (found["A model"].passed, found["A model"].total) == (1, 2)
    assert found["Another"].failed[0]["reason"].startswith("not run")
    assert set(found) == {"A model", "Another"}
