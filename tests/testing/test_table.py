import subprocess
import sys

import pytest

from noria.core.errors import MissingError
from noria.testing.case import Case, arr
from noria.testing.table import collect_cases, coverage, kernel_columns, of_source_tree

CASES = [
    Case("add", [arr(3), arr(3)]),
    Case("add", [arr(3), arr(1)], jax=False),
    Case("tanh", [arr(3)]),
]


def row(text, name):
    (line,) = [x for x in text.splitlines() if x.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_each_op_has_a_line_that_tells_what_exists_for_it():
    text = coverage(CASES, {"oneDNN": {"tanh": ["eltwise"]}, "Numba": {"tanh": ["map", "chain"]}})
    assert row(text, "add") == ["yes", "yes", "", "2", "1", "", ""]
    assert row(text, "tanh") == ["yes", "yes", "", "1", "1", "1", "2"]
    assert row(text, "equal")[:4] == ["yes", "", "", ""]


def test_ops_are_listed_by_family_and_counted():
    text = coverage(CASES)
    assert text.index("## compare") < text.index("## elementwise") < text.index("`tanh`")
    assert "2 tested by 3 cases" in text


def test_cases_are_collected_from_test_files(tmp_path):
    (tmp_path / "test_a.py").write_text("CASES = [1, 2]\n")
    (tmp_path / "test_b.py").write_text("x = 1\n")
    (tmp_path / "other.py").write_text("CASES = [3]\n")
    assert collect_cases(tmp_path) == [1, 2]


def test_a_folder_without_tests_is_refused(tmp_path):
    with pytest.raises(MissingError, match="no test files"):
        collect_cases(tmp_path)


def test_kernel_columns_name_the_kernels_of_each_op():
    columns = kernel_columns()
    assert set(columns) >= {"numba", "onednn"}
    assert columns["onednn"]["conv2d"] == ["onednn:conv"]


def test_the_module_writes_the_table_of_this_source_tree(tmp_path):
    path = tmp_path / "coverage.md"
    subprocess.run([sys.executable, "-m", "noria.testing.table", path], check=True)
    assert path.read_text() == of_source_tree()
    assert "| `conv2d` | yes | yes |" in path.read_text()
