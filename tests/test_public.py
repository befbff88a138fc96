"""What users may rely on: public names, their documentation, and the list of ops.

NORIA_UPDATE_DOCS=1 writes the names there are now into `public_names.txt`, and `docs/coverage.md`:
a change of either is then seen in the diff.
"""

from __future__ import annotations

import importlib
import inspect
import os
import types
from pathlib import Path

import pytest

import noria
from noria.ir.opdef import OpDef, registry
from noria.testing import pages
from noria.testing.table import of_source_tree

ROOT = Path(__file__).parent.parent
FRONTS = ["noria", "noria.convert.onnx", "noria.data", "noria.nn", "noria.ops", "noria.optim"]
GOLDEN = Path(__file__).parent / "public_names.txt"
COVERAGE = ROOT / "docs" / "coverage.md"
PAGES = ROOT / "docs" / "ops"
UPDATE = bool(os.environ.get("NORIA_UPDATE_DOCS"))

# Modules of noria/ops that define no function for users: what several families share, how ops are
# written as Python operators, ops that only passes or other functions emit.
SUPPORT = {
    "common",
    "conv_compute",
    "detection.geometry",
    "detection.suppression",
    "detection.windows",
    "fused",
    "fused_bag",
    "fused_convs",
    "fused_norm",
    "fused_product",
    "getitem",
    "library",
    "loop_grad",
    "loop_ops",
    "masked_grad",
    "max_places",
    "methods",
    "norm_pair",
    "normed_conv",
    "numeric",
    "packed",
    "philox",
    "pooled_conv",
    "pooled_norm",
    "positions",
    "resample",
    "rules",
    "steps",
    "sweep",
    "taken",
    "update_formulas",
    "update_rules",
    "weight_grads",
    "window",
}
# Functions of a family that other modules of noria share.
HELPERS = {
    "both_masks",
    "bounds",
    "check_bag",
    "emit_cond",
    "erf_of",
    "first_hits",
    "merge_heads",
    "next_stream",
    "pool_windows",
    "position_mask",
    "random_key",
    "reduced",
    "reduced_shape",
    "share_heads",
    "sliced_size",
    "softmax_or_zeros",
    "spelled_attention",
    "split_heads",
    "window_views",
}

NAMES = [
    (front, name) for front in FRONTS for name in sorted(importlib.import_module(front).__all__)
]


def modules_of_ops() -> set[str]:
    """Every module below noria.ops but packages themselves, such as "norm" or "detection.nms"."""
    folder = ROOT / "noria" / "ops"
    files = {p.relative_to(folder).with_suffix("") for p in folder.rglob("*.py")}
    return {".".join(f.parts) for f in files if f.name != "__init__"}


def families() -> dict[str, types.ModuleType]:
    names = sorted(modules_of_ops() - SUPPORT)
    return {n: importlib.import_module(f"noria.ops.{n}") for n in names}


def written_in(module: types.ModuleType) -> set[str]:
    """Public functions and ops of a family; an op `x_op` is called through the function x."""
    names = set()
    for name, thing in vars(module).items():
        home = thing.infer_fn if isinstance(thing, OpDef) else thing
        public = not name.startswith("_") and not name.endswith("_op") and name not in HELPERS
        if public and inspect.isfunction(home) and home.__module__ == module.__name__:
            names.add(name)
    return names


@pytest.mark.parametrize("front", FRONTS)
def test_public_names_exist_once_and_in_order(front: str) -> None:
    module = importlib.import_module(front)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(("front", "name"), NAMES, ids=lambda part: part)
def test_public_names_are_documented(front: str, name: str) -> None:
    thing = getattr(importlib.import_module(front), name)
    if not isinstance(thing, (types.ModuleType, types.FunctionType, type, OpDef)):
        thing = type(thing)  # an instance, such as noria.flags
    doc = thing.__doc__  # of its own: a docstring that is inherited tells of something else
    assert doc and doc.strip(), f"{front}.{name} has no docstring"


def test_public_names_are_those_listed() -> None:
    now = "".join(f"{front}.{name}\n" for front, name in NAMES)
    if UPDATE:
        GOLDEN.write_text(now)
    listed = set(GOLDEN.read_text().split())
    found = set(now.split())
    assert found == listed, f"new: {sorted(found - listed)}, gone: {sorted(listed - found)}"


def test_every_function_of_the_families_of_ops_is_exported_and_nothing_else() -> None:
    written = set().union(*(written_in(m) for m in families().values()))
    exported = set(noria.ops.__all__)
    assert exported == written, f"add {written - exported}, remove {exported - written}"


def test_exceptions_to_the_list_are_real() -> None:
    assert modules_of_ops() >= SUPPORT
    assert set().union(*(vars(m) for m in families().values())) >= HELPERS


@pytest.mark.parametrize("name", sorted(registry))
def test_every_op_is_documented(name: str) -> None:
    op = registry[name]
    assert op.infer_fn.__doc__ and op.infer_fn.__doc__.strip()


def test_pages_of_operators_are_current() -> None:
    now = pages.of_source_tree()
    if UPDATE:
        pages.write(PAGES, now)
    written = {p.name: p.read_text() for p in PAGES.glob("*.md")}
    assert set(written) == set(now), "make docs"
    for name, text in now.items():
        assert pages.same(written[name], text), f"docs/ops/{name} is not current: make docs"


def test_coverage_page_is_current() -> None:
    now = of_source_tree()
    if UPDATE:
        COVERAGE.write_text(now)
    assert COVERAGE.read_text() == now, "python -m noria.testing.table docs/coverage.md"
