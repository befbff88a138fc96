import json

from noria.testing.suite import SuiteResult, write_results


def test_results_add_up(tmp_path):
    a, b = SuiteResult(), SuiteResult()
    a.add("one", None)
    a.add("two", "it is wrong")
    b.add("three", None)
    a.merge(b)
    assert (a.passed, a.total, round(a.share, 2)) == (2, 3, 0.67)
    write_results(tmp_path / "r.json", {"suite": a})
    assert json.loads((tmp_path / "r.json").read_text()) == {
        "suite": {"failed": [{"name": "two", "reason": "it is wrong"}], "passed": 2, "total": 3}
    }
