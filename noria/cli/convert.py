"""`noria convert SOURCE... TARGET`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.shell_completion import CompletionItem

from noria.cli.console import bytes_text, note, print_table
from noria.cli.progress import progress
from noria.cli.run import read_arrays
from noria.cli.sizes import one_each, parse_sizes, sample_feeds
from noria.convert.formats import FORMATS, Wishes, format_of, read_model
from noria.core.errors import ArgumentError, ExtraMissing
from noria.ir.program import Program
from noria.ir.save import ZIPPED, save
from noria.passes.for_test import for_test
from noria.runtime.predictor import Predictor

Arrays = dict[str, np.ndarray]
WEIGHTS = (".pth", ".pt", ".safetensors")
SUFFIXES = (".onnx", ".noria", ".pdmodel", ".prototxt", ".caffemodel", ".pb", ".pbtxt", *WEIGHTS)


class _Model(click.Path):
    """A file; those of models and folders complete."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = Path(incomplete + "x").parent
        names = sorted(found.iterdir()) if found.is_dir() else []
        shown = [p for p in names if str(p).startswith(incomplete) or not incomplete]
        return [
            CompletionItem(f"{p}/" if p.is_dir() else str(p))
            for p in shown
            if p.is_dir() or p.suffix in SUFFIXES
        ]


class _ZooName(click.ParamType):
    """The name of a model of the zoo."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        models = importlib.import_module("noria.zoo.pretrained").MODELS
        return [
            CompletionItem(n, help=m.about) for n, m in models.items() if n.startswith(incomplete)
        ]


_KNOWN = "\n".join(f"      {f.files:<32} {f.about}" for f in FORMATS.values())


@click.command(
    help=f"""Convert a model of another framework, or to ONNX.

    What the files are is told from the files:

    \b
{_KNOWN}
      WEIGHTS.pth, WEIGHTS.safetensors PyTorch's weights, into a --model of the zoo

    TARGET ends with .noria (or is a directory) or with .onnx. Operators that noria does not know
    are all listed, and nothing is written then.

    \b
    Examples:
      noria convert model.onnx model.noria
      noria convert inference_model/ model.noria
      noria convert deploy.prototxt net.caffemodel net.noria
      noria convert init_net.pb predict_net.pb net.noria --input data=N,3,224,224
      noria convert mobilenet_v2.pth net.noria --model mobilenet_v2
      noria convert best.noria best.onnx --output logits --check
    """
)
@click.argument("sources", nargs=-1, required=True, type=_Model(path_type=Path))
@click.argument("target", type=_Model(path_type=Path))
@click.option("--from", "kind", type=click.Choice([*FORMATS]), help="Where files do not tell it.")
@click.option(
    "--constant",
    "constants",
    multiple=True,
    metavar="NAME=VALUE",
    help="Fix an input: a number, several (1,2,3), or an array in a .npy file.",
)
@click.option(
    "--input",
    "shapes",
    multiple=True,
    metavar="NAME=SHAPE",
    help="Shape of an input, as x=N,3,224,224; a name leaves a size open.",
)
@click.option("--output", "outputs", multiple=True, metavar="NAME", help="Keep these, default all.")
@click.option("--model", type=_ZooName(), help="Model of the zoo, for PyTorch's weights.")
@click.option(
    "--opset", type=click.IntRange(18), default=18, show_default=True, help="Of a written ONNX."
)
@click.option("--check", is_flag=True, help="Run the ONNX file and noria, tell the difference.")
@click.option("--size", multiple=True, metavar="N=8", help="Sizes for the check, default 1.")
def command(
    sources: tuple[Path, ...],
    target: Path,
    kind: str | None,
    constants: tuple[str, ...],
    shapes: tuple[str, ...],
    outputs: tuple[str, ...],
    model: str | None,
    opset: int,
    check: bool,
    size: tuple[str, ...],
) -> None:
    _need_target(target)
    wishes = Wishes(dict(map(_constant, constants)), dict(map(_shape, shapes)))
    if check:
        _need_onnx(sources, target)
    with progress(3 if check else 2) as stage:
        stage(f"reading {sources[0].name}")
        program, state = _read(sources, wishes, kind, model)
        if outputs:
            program = for_test(program, outputs)
            state = {n: a for n, a in state.items() if n in program.state}
        stage(f"writing {target.name}")
        _write(program, state, target, opset)
        if check:
            stage("checking")
            source = sources[0] if sources[0].suffix == ".onnx" else target
            rows = _compare(program, state, source, wishes, size)
    _tell(program, state, target)
    if check:
        print_table(["output", ">largest difference", ">largest value"], rows)


# ---- options -------------------------------------------------------------------------------------


def _need_target(target: Path) -> None:
    if target.suffix not in (".onnx", *ZIPPED, ""):
        raise ArgumentError(
            "nothing is known that ends so",
            expected="TARGET.noria, TARGET.onnx, or a directory",
            got=str(target),
        )


def _constant(text: str) -> tuple[str, np.ndarray]:
    """NAME=3, NAME=1,2,3, NAME=true or NAME=FILE.npy."""
    name, found, value = text.partition("=")
    if not (found and name and value):
        raise ArgumentError("not a constant", expected="NAME=VALUE", got=text)
    if value.endswith(".npy"):
        array = read_arrays(Path(value))
        assert isinstance(array, np.ndarray), "a .npy file holds one array"
        return name, array
    numbers = [_number(part, text) for part in value.split(",")]
    return name, np.asarray(numbers if "," in value else numbers[0], _common(numbers))


def _number(word: str, text: str) -> bool | int | float:
    if word in ("true", "false"):
        return word == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    raise ArgumentError("not a number", expected="3, 0.5, true, 1,2,3 or FILE.npy", got=text)


def _common(numbers: Sequence[bool | int | float]) -> str:
    if all(isinstance(n, bool) for n in numbers):
        return "bool"
    return "float32" if any(isinstance(n, float) for n in numbers) else "int64"


def _shape(text: str) -> tuple[str, list[int | str]]:
    """NAME=N,3,224,224."""
    name, found, sizes = text.partition("=")
    if not (found and name):
        raise ArgumentError("not a shape", expected="NAME=N,3,224,224", got=text)
    listed: list[int | str] = []
    for word in filter(None, sizes.split(",")):
        whole = word.isascii() and word.isdigit()
        listed.append(int(word) if whole else word)
    return name, listed


# ---- reading and writing -------------------------------------------------------------------------


def _read(
    sources: Sequence[Path], wishes: Wishes, kind: str | None, model: str | None
) -> tuple[Program, Arrays]:
    if kind is None and len(sources) == 1 and sources[0].suffix in WEIGHTS:
        zoo = importlib.import_module("noria.zoo.pretrained")
        if model is None:
            raise ArgumentError(
                "weights alone are no model",
                where=str(sources[0]),
                expected="--model " + ", ".join(zoo.MODELS),
            )
        return zoo.pretrained(model, sources[0])
    if model is not None:
        raise ArgumentError("--model is for PyTorch's weights", got=f"--model {model}")
    return read_model(sources, wishes, kind=kind)


def _write(program: Program, state: Arrays, target: Path, opset: int) -> None:
    if target.suffix == ".onnx":
        importlib.import_module("noria.convert.onnx.writer").save(
            program, target, state, opset=opset
        )
        return
    missing = program.state.keys() - state.keys()
    if missing:
        names = ", ".join(sorted(missing)[:5])
        note(f"{len(missing)} arrays are not in the files and start as they are declared: {names}")
    save(program, target, None if missing else state)


def _tell(program: Program, state: Mapping[str, np.ndarray], target: Path) -> None:
    size = sum(a.nbytes for a in state.values())
    count = len(program.operators)
    click.echo(f"{target}: {count} operators, {len(state)} arrays of {bytes_text(size)}")
    rows = [("input", n, str(v)) for n, v in program.inputs.items()]
    rows += [("output", n, str(v)) for n, v in program.outputs.items()]
    print_table(["", "name", "spec"], rows)


# ---- the check -----------------------------------------------------------------------------------


def _need_onnx(sources: Sequence[Path], target: Path) -> None:
    if ".onnx" not in (target.suffix, sources[0].suffix):
        raise ArgumentError(
            "--check compares with an ONNX file",
            expected="an ONNX file as source or target",
            got=f"{format_of(sources)} to {target.suffix or 'a directory'}",
        )


def _compare(
    program: Program, state: Arrays, onnx: Path, wishes: Wishes, size: Sequence[str]
) -> list[tuple[str, str, str]]:
    """For each output: its name, the largest difference, the largest number."""
    feeds, predictor = _prepared(program, state, size)
    mine = predictor.run(feeds)
    theirs = _in_onnxruntime(onnx, feeds | dict(wishes.constants))
    rows = []
    for name, array in mine.items():
        if name not in theirs:
            continue
        other = theirs[name]
        if other.shape != array.shape:
            rows.append((name, f"shape {list(other.shape)}", f"shape {list(array.shape)}"))
            continue
        wide = [np.asarray(a, np.float64) for a in (array, other)]
        largest = np.max(np.abs(wide[0] - wide[1]), initial=0.0)
        rows.append((name, f"{largest:.3g}", f"{np.max(np.abs(wide[1]), initial=0.0):.3g}"))
    return rows


def _prepared(program: Program, state: Arrays, size: Sequence[str]) -> tuple[Arrays, Predictor]:
    predictor = Predictor(program, state)
    sizes = one_each(parse_sizes(size, predictor.inputs))
    return sample_feeds(predictor.inputs, sizes), predictor


def _in_onnxruntime(path: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError:
        raise ExtraMissing("onnxruntime", "check", "checking ONNX models") from None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = {i.name for i in session.get_inputs()}
    results = session.run(None, {n: a for n, a in feeds.items() if n in known})
    return {o.name: r for o, r in zip(session.get_outputs(), results, strict=True)}
