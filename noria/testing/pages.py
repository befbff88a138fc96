"""A page for each operator, written from the operator itself: `docs/ops/NAME.md`.

    python -m noria.testing.pages docs/ops

What a page says is the docstring, the schema, the kernels and, where there is one, the
decomposition; its example is the smallest test case, which `tests/test_docs.py` runs again.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.dims import Dim
from noria.core.dtypes import is_float
from noria.core.errors import NoriaError
from noria.core.files import atomic_write
from noria.ir.opdef import OpDef
from noria.testing.case import ArraySpec, Case
from noria.testing.examples import EXAMPLES, SETUP
from noria.testing.record import as_list
from noria.testing.table import collect_cases, kernel_columns

FEW, MOST = 4, 100  # elements of inputs and results that a reader looks at
WIDTH = 96  # characters of a line of an example

OPS: Any = importlib.import_module("noria.ops")  # what users see, so what pages are about

Pages = dict[str, str]


def pages(cases: Iterable[Case], kernels: Mapping[str, Mapping[str, Sequence[str]]]) -> Pages:
    """File name -> Markdown: a page for each name of `noria.ops`, and their index."""
    by_op: dict[str, list[Case]] = {}
    for case in cases:
        by_op.setdefault(case.op, []).append(case)
    out, lines = {}, ["# Operators", "", INTRODUCTION]
    for family, names in sorted(_families().items()):
        lines += ["", f"## {family}", ""]
        for name in sorted(names):
            thing = getattr(OPS, name)
            out[f"{name}.md"] = page(name, thing, by_op.get(name, []), kernels)
            lines.append(f"- [`{name}`]({name}.md): {_first_line(thing)}")
    return {**out, "README.md": "\n".join(lines) + "\n"}


INTRODUCTION = """\
All of `from noria import ops`. On Values of a Program an operator is written down, on NumPy arrays
it computes at once. A page is generated from the operator (`make docs`), its example is a test.\
"""


def _families() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in OPS.__all__:
        home = _home(getattr(OPS, name)).__module__
        found.setdefault(home.removeprefix("noria.ops."), []).append(name)
    return found


def _home(thing: Any) -> Any:
    return thing.infer_fn if isinstance(thing, OpDef) else thing


def _first_line(thing: Any) -> str:
    """The first sentence of a docstring, or its first line."""
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return text.split(".  (")[0].rstrip(".") + "."


def page(
    name: str,
    thing: Any,
    cases: Sequence[Case],
    kernels: Mapping[str, Mapping[str, Sequence[str]]],
) -> str:
    """Markdown about one operator."""
    home = _home(thing)
    signature = f"{name}{_signature(thing)}"
    parts = [f"# {name}", f"```text\n{signature}\n```", inspect.getdoc(thing) or ""]
    if isinstance(thing, OpDef):
        parts.append(_schema(thing, kernels))
    else:
        parts.append("Composed of other operators: its gradient and its kernels are theirs.")
    shown = written(name) or example(name, cases)
    if shown:
        parts.append(f"## Example\n\n{shown}")
    path = home.__module__.replace(".", "/")
    parts.append(f"Defined in [`{path}.py`](../../{path}.py) · [all operators](README.md)")
    return "\n\n".join(parts) + "\n"


def _signature(thing: Any) -> str:
    """Parameters without annotations: what is told of types stands in the docstring."""
    signature = inspect.signature(thing)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    results = f" -> {', '.join(thing.outputs)}" if isinstance(thing, OpDef) else ""
    return f"{signature.replace(parameters=bare, return_annotation=signature.empty)}{results}"


def _schema(op: OpDef, kernels: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    rows = ["| | |", "| --- | --- |"]
    inputs = [
        f"`{i.name}`" + (" (optional)" if i.optional else " (any number)" if i.variadic else "")
        for i in op.inputs
    ]
    rows.append(f"| inputs | {', '.join(inputs) or 'none'} |")
    given = [
        f"`{k}`" + ("" if v is inspect.Parameter.empty else f" = `{v!r}`")
        for k, v in op.attrs.items()
    ]
    rows.append(f"| attributes | {', '.join(given) or 'none'} |".replace("\n", " "))
    rows.append(f"| effect | {op.effect} |")
    rows.append(f"| gradient | {'yes' if op.grad_fn else 'no'} |")
    fast = [k for column in kernels.values() for k in column.get(op.name, ())]
    rows.append(f"| kernels | {', '.join(f'`{k}`' for k in [*fast, 'reference'])} |")
    return "\n".join(rows)


# ---- examples ----------------------------------------------------------------------------------


def example(name: str, cases: Sequence[Case]) -> str | None:
    """The smallest case that can be shown, as code and what it prints; None if there is none.

    One too large to be read is told by how its arrays are made, and the first results.
    """
    ordered = sorted(cases, key=lambda c: (_size(c) < FEW, _size(c)))
    for show, fits in ((_shown, [c for c in ordered if _size(c) <= MOST]), (_outlined, ordered)):
        for case in fits:
            unfit = (NoriaError, ValueError, TypeError, KeyError, RuntimeWarning)
            with contextlib.suppress(*unfit), warnings.catch_warnings():
                warnings.simplefilter("error")  # numbers out of range are no good example
                shown = show(name, case)
                if shown is not None:
                    return shown
    return None


def written(name: str) -> str | None:
    """The example of `examples.py`, with the arrays it names; None if there is none."""
    call = EXAMPLES.get(name)
    if call is None:
        return None
    arrays = [f"{n} = {value}" for n, value in SETUP.items() if re.search(rf"\b{n}\b", call)]
    lines = ["import numpy as np", "from noria import ops", "", *arrays, f"result = {call}"]
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    return _with_output(lines, as_list(space["result"]))


def _with_output(lines: list[str], results: Sequence[Any]) -> str:
    if len(results) == 1:
        lines.append("print(np.round(result, 4))" if _numeric(results[0]) else "print(result)")
    else:
        shown = "np.round(part, 4)" if all(map(_numeric, results)) else "part"
        lines += ["for part in result:", f"    print({shown})"]
    code = "\n".join(lines)
    return f"```python\n{code}\n```\n\n```text\n{printed(code)}```"


def _size(case: Case) -> int:
    return sum(int(np.prod(getattr(x, "shape", ()))) for x in case.inputs)


def _shown(name: str, case: Case) -> str | None:
    sizes = case.sizes()
    attrs = case.attrs_at(sizes)
    arrays = [_rounded(a) for a in case.arrays()]
    if any(not _plain(v) for v in attrs.values()):
        return None
    results = as_list(getattr(OPS, name)(*arrays, **attrs))
    if sum(r.size for r in results) > MOST:
        return None
    lines = ["import numpy as np", "from noria import ops", ""]
    names = []
    for i, (label, array) in enumerate(zip(_labels(name, len(arrays)), arrays, strict=True)):
        if array is None or np.isscalar(array):
            names.append(repr(array))
            continue
        lines.append(f"{label} = {_literal(array, len(label) + 3)}")
        names.append(label if i >= 0 else "")
    call = ", ".join([*names, *(f"{k}={v!r}" for k, v in attrs.items())])
    lines.append(f"result = ops.{name}({call})")
    return _with_output(lines, results)


def _outlined(name: str, case: Case) -> str | None:
    """A case whose arrays are drawn, and the shape and the first numbers of what comes of them."""
    attrs = case.attrs_at(case.sizes())
    if not all(map(_plain, attrs.values())):
        return None
    lines = ["import numpy as np", "from noria import ops", "", "rng = np.random.default_rng(0)"]
    names = []
    for label, given in zip(_labels(name, len(case.inputs)), case.inputs, strict=True):
        if given is None or np.isscalar(given):
            names.append(repr(given))
            continue
        drawn = isinstance(given, ArraySpec)
        lines.append(f"{label} = {_drawn(given) if drawn else _literal(given, len(label) + 3)}")
        names.append(label)
    call = ", ".join([*names, *(f"{k}={v!r}" for k, v in attrs.items())])
    lines += [f"result = ops.{name}({call})"]
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    if len(as_list(space["result"])) == 1:
        lines.append("print(result.shape, np.round(result.ravel()[:4], 4))")
    else:
        lines.append("for part in result:")
        lines.append("    print(part.shape, np.round(part.ravel()[:4], 4))")
    code = "\n".join(lines)
    text = printed(code)
    return None if "nan" in text else f"```python\n{code}\n```\n\n```text\n{text}```"


def _drawn(spec: ArraySpec) -> str:
    """Code that draws such an array."""
    if is_float(spec.dtype):
        kind = "" if spec.dtype == "float64" else f".astype(np.{spec.dtype})"
        return f"rng.uniform({spec.low}, {spec.high}, {spec.shape}){kind}"
    kind = "" if spec.dtype == "int64" else f".astype(np.{spec.dtype})"
    return f"rng.integers({int(spec.low)}, {int(spec.high)}, {spec.shape}){kind}"


_NUMBER = re.compile(r"(-?\d+\.\d*(?:e[+-]?\d+)?)")


def same(page: str, other: str) -> bool:
    """Whether two pages say the same, whatever the last digits that another CPU computes."""
    left, right = _NUMBER.split(page), _NUMBER.split(other)
    if len(left) != len(right) or any(
        a.split() != b.split() for a, b in zip(left[::2], right[::2], strict=True)
    ):
        return False
    pairs = zip(left[1::2], right[1::2], strict=True)
    return all(abs(float(a) - float(b)) <= 2e-4 + 1e-4 * abs(float(a)) for a, b in pairs)


def printed(code: str) -> str:
    """What a piece of code prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "example", "exec"), {"__name__": "example"})
    return out.getvalue().rstrip() + "\n"


def _rounded(array: Any) -> Any:
    """Floats of two digits, which are easier to read; the example is computed from these."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        return np.round(array, 2)
    return array


def _numeric(array: Any) -> bool:
    return np.asarray(array).dtype.kind in "fiu"


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return not isinstance(value, (Dim, np.ndarray)) and not callable(value)


def _labels(name: str, count: int) -> list[str]:
    thing: Callable[..., Any] | OpDef = getattr(OPS, name)
    if isinstance(thing, OpDef):
        return [n.replace("[", "").replace("]", "") for n in thing.input_names(count)]
    return list(inspect.signature(thing).parameters)[:count]


def _literal(array: np.ndarray, indent: int) -> str:
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ValueError("these numbers have no literal")
    text = np.array2string(
        array, separator=", ", max_line_width=WIDTH, prefix=" " * (indent + 9), threshold=MOST
    )
    dtype = "" if array.dtype in (np.int64, np.float64, np.bool_) else f", np.{array.dtype}"
    return f"np.array({text}{dtype})"


def of_source_tree() -> Pages:
    """The pages for the ops, kernels and test cases of this source tree."""
    tests = Path(__file__).parents[2] / "tests" / "ops"
    return pages(collect_cases(tests), kernel_columns())


def write(folder: Path, now: Pages) -> None:
    """Writes the pages, and removes those of operators that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.name not in now:
            old.unlink()
    for name, text in now.items():
        file = folder / name
        if not file.exists() or not same(file.read_text(), text):
            atomic_write(file, text.encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]), of_source_tree())
