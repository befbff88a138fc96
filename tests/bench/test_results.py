import json

import pytest

from bench import results


def test_each_entry_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "results.json"
    results.add("workloads", "a", {"engines": {}}, path)
    results.add("parts", "b", {"value": 1}, path)
    kept = json.loads(path.read_text())
    assert kept["workloads"]["a"]["threads"] == 2 and kept["workloads"]["a"]["date"]
    assert kept["parts"]["b"]["value"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_run_replaces_a_row_and_keeps_the_others():
    old = {"workloads": {"a": {"x": 1, "old": 1}, "b": {"x": 2}}, "parts": {}, "peaks": {}}
    new = results.merged(old, "workloads", "a", {"x": 3})
    assert new["workloads"] == {"a": {"x": 3}, "b": {"x": 2}}
    assert old["workloads"]["a"]["x"] == 1


def test_no_file_is_no_results(tmp_path):
    assert results.load(tmp_path / "none.json") == {"peaks": {}, "workloads": {}, "parts": {}}


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    results.add("parts", "a", {"value": 1}, path)
    before = path.read_text()
    with pytest.raises(TypeError):
        results.add("parts", "b", {"value": object()}, path)
    assert path.read_text() == before
