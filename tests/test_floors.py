"""The house: imports point down, no cycles; only what is optional or slow hides in functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "noria"

FLOORS = {
    "core": 0,
    "comm": 1,
    "data": 1,
    "ir": 1,
    "ops": 2,
    "grad": 3,
    "nn": 3,
    "optim": 3,
    "passes": 3,
    "kernels": 4,
    "runtime": 5,
    "convert": 6,
    "export": 6,
    "train": 6,
    "serve": 6,
    "testing": 6,
    "zoo": 7,
    "cli": 8,
}
# Modules that gather names for users; nothing inside the package may import them.
FRONTS = {"noria", *(f"noria.{f}" for f in FLOORS if (ROOT / f / "__init__.py").exists())}
HIDDEN = {
    "PIL",
    "jax",
    "tensorboard",
    "sklearn",
    "google",
    "onnx",
    "pytest",
}  # optional dependencies: imported where they are used
HIDDEN |= {"http", "rich", "urllib"}  # long to import, for what few do: `import noria` is quick

FILES = sorted(
    p for p in ROOT.rglob("*.py") if p.name != "__init__.py" and not p.name.endswith("_pb2.py")
)  # messages are compiled from their schema


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)


MODULES = {module_of(p): p for p in FILES}


def imported(path: Path) -> list[tuple[str, int, bool]]:
    """(module, line, inside a function) of every import in a file, but those for types only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    inner = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef))
        for n in ast.walk(f)
    }
    found = []
    for node in ast.walk(tree):
        hidden = id(node) in inner
        if isinstance(node, ast.Import):
            found += [(a.name, node.lineno, hidden) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for a in node.names:
                full = f"{node.module}.{a.name}"
                found.append((full if full in MODULES else node.module, node.lineno, hidden))
    return found


def floor(module: str) -> int:
    return FLOORS[module.split(".")[1]]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down_to_defining_modules(path: Path) -> None:
    me = module_of(path)
    for name, line, hidden in imported(path):
        if not name.startswith("noria"):
            root = name.split(".")[0]
            assert not hidden or root in HIDDEN or _lazy_start(me), f"{path}:{line} hides {name}"
            continue
        assert not hidden, f"{path}:{line}: {name} is imported inside a function"
        assert name not in FRONTS, f"{path}:{line}: import the module that defines it, not {name}"
        assert floor(name) <= floor(me), f"{path}:{line}: {me} looks up to {name}"


def _lazy_start(module: str) -> bool:
    """The compiler is imported only when a kernel is not in the cache: a warm start is quick."""
    return module.startswith("noria.kernels.numba")


def test_imports_have_no_cycle() -> None:
    graph = {m: {n for n, _, _ in imported(p) if n in MODULES} for m, p in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for n in sorted(graph[module]):
                visit(n, [*path, module])
            done.add(module)

    for m in graph:
        visit(m, [])


def test_every_source_has_its_test() -> None:
    tests = ROOT.parent / "tests"
    missing = []
    for path in FILES:
        relative = path.relative_to(ROOT)
        mirror = tests / relative.parent / f"test_{relative.name}"
        if not mirror.exists():
            missing.append(str(relative))
    assert not missing, f"without a test file: {', '.join(missing)}"
