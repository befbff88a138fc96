"""What exists for each op, and what is tested: the table of `docs/coverage.md`.

python -m noria.testing.table docs/coverage.md
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from noria.core.errors import MissingError
from noria.core.files import atomic_write
from noria.ir.opdef import OpDef, registry
from noria.kernels import library
from noria.kernels.registry import kernels
from noria.testing.case import Case
from noria.testing.check import load_ops

HEADER = """\
# Coverage of ops

*compute* is the reference (NumPy) and the XLA lowering (jax); *gradient* and *decompose* are rules
that emit other ops; *cases* is how many test cases an op has, in jax how many of them are also
compiled by it; the other columns count the fast kernels that may run the op.
"""


def collect_cases(folder: str | Path) -> list[Case]:
    """The `CASES` of every `test_*.py` of a folder and those below.

    Raises MissingError if the folder holds no such file.
    """
    files = sorted(Path(folder).rglob("test_*.py"))
    if not files:
        raise MissingError("no test files here", where=str(folder), expected="files test_*.py")
    cases: list[Case] = []
    for file in files:
        spec = importlib.util.spec_from_file_location(f"cases_{file.parent.stem}_{file.stem}", file)
        assert spec is not None and spec.loader is not None, "a .py file always has a loader"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        cases.extend(getattr(module, "CASES", []))
    return cases


def coverage(
    cases: Iterable[Case] = (), kernels: Mapping[str, Mapping[str, Sequence[str]]] | None = None
) -> str:
    """Markdown: for each family of ops, one line an op.

    cases:   all test cases, see `collect_cases`
    kernels: title of a column, such as "Numba" -> op name -> names of kernels
    """
    load_ops()
    cases, columns = list(cases), dict(kernels or {})
    tested = Counter(c.op for c in cases)
    compiled = Counter(c.op for c in cases if c.jax)
    families: dict[str, list[OpDef]] = {}
    for definition in registry.values():
        module = definition.infer_fn.__module__
        if module.startswith("noria."):
            families.setdefault(module.removeprefix("noria.ops."), []).append(definition)
    titles = ["op", "compute", "gradient", "decompose", "cases", "in jax", *columns]
    lines = [HEADER, _summary(families, tested)]
    for family in sorted(families):
        rows = [_row(d, tested, compiled, columns) for d in sorted(families[family], key=_name)]
        lines += [f"\n## {family}\n", *_table(titles, rows)]
    return "\n".join(lines) + "\n"


def _name(definition: OpDef) -> str:
    return definition.name


def _row(
    definition: OpDef,
    tested: Counter[str],
    compiled: Counter[str],
    columns: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[str]:
    parts = (definition.compute_fn, definition.grad_fn, definition.decompose_fn)
    counts = [tested[definition.name], compiled[definition.name]]
    counts += [len(column.get(definition.name, ())) for column in columns.values()]
    marks = ["yes" if part is not None else "" for part in parts]
    return [f"`{definition.name}`", *marks, *(str(n) if n else "" for n in counts)]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(titles)
    return ["| " + " | ".join(row) + " |" for row in (titles, rule, *rows)]


def _summary(families: Mapping[str, Sequence[OpDef]], tested: Counter[str]) -> str:
    every = [d for family in families.values() for d in family]
    return (
        f"{len(every)} ops in {len(families)} families, "
        f"{sum(d.grad_fn is not None for d in every)} with a gradient, "
        f"{sum(bool(tested[d.name]) for d in every)} tested by {sum(tested.values())} cases."
    )


def kernel_columns() -> dict[str, dict[str, list[str]]]:
    """Engine -> op name -> names of its kernels, as `coverage` takes them."""
    assert library.__all__ == [], "importing it is what registers the kernels"
    columns: dict[str, dict[str, list[str]]] = {}
    for kernel in kernels():
        for name in kernel.ops:
            columns.setdefault(kernel.engine, {}).setdefault(name, []).append(kernel.name)
    return {engine: columns[engine] for engine in sorted(columns)}


def of_source_tree() -> str:
    """The table for the ops, kernels and test cases of this source tree.

    Raises MissingError where the tests are not there (an installed package).
    """
    tests = Path(__file__).parents[2] / "tests" / "ops"
    return coverage(collect_cases(tests), kernel_columns())


if __name__ == "__main__":
    atomic_write(sys.argv[1], of_source_tree().encode())
