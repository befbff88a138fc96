"""`noria run MODEL`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from noria.cli.console import note
from noria.cli.precision import precision_option
from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, DTypeError, FormatError, MissingError, nearest
from noria.core.files import atomic_write
from noria.ir.program import Program, Value
from noria.ir.save import load
from noria.passes.for_test import for_test
from noria.runtime.predictor import Predictor


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE",
    help="An array in a .npy file, or a .npz file with arrays by name. The name may be left out "
    "if the model needs one input.",
)
@click.option(
    "--fetch", multiple=True, metavar="NAME", help="Outputs, default all the inputs suffice for."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to save the outputs: .npz, or .npy for a single one. Else they are printed.",
)
@click.option("--threads", type=click.IntRange(1), help="Default: one per core.")
@precision_option
def command(
    model: Path,
    inputs: tuple[str, ...],
    fetch: tuple[str, ...],
    output: Path | None,
    threads: int | None,
) -> None:
    """Run a saved model on arrays.

    \b
    Examples:
      noria run best.noria --input x.npy --fetch logits
      noria run best.noria --input image=x.npy --output y.npz
      noria run best.noria --input batch.npz
    """
    program, state = load(model, mapped=True)
    given = _read_inputs(inputs, program, fetch)
    names = list(dict.fromkeys(fetch)) or _possible(program, given)
    if output is not None:
        _check_output(output, names)
    predictor = Predictor(program, state, outputs=names, threads=threads, adopt=True)
    out = predictor.run(_cast(given, predictor.inputs))
    if output is not None:
        _save(output, out)
    for name, array in out.items():
        click.echo(f"{name}: {array.dtype}{list(array.shape)}")
        if output is None:
            click.echo(np.array2string(array, threshold=100, precision=4, max_line_width=100))


# ---- inputs --------------------------------------------------------------------------------------


def _read_inputs(
    texts: Sequence[str], program: Program, fetch: Sequence[str]
) -> dict[str, np.ndarray]:
    known = [v.name for v in program.block.inputs]
    given: dict[str, np.ndarray] = {}
    for text in texts:
        name, path = _split(text, known)
        arrays = read_arrays(path)
        if not isinstance(arrays, dict):
            arrays = {name or _only_name(text, program, fetch): arrays}
        elif name:
            raise ArgumentError("a .npz file has names of its own", got=text, hint=f"{path}")
        for key, array in arrays.items():
            if key not in known:
                raise MissingError(
                    f"the model has no input '{key}'", where=str(path), hint=nearest(key, known)
                )
            given[key] = array
    return given


def _split(text: str, known: Sequence[str]) -> tuple[str, Path]:
    """(name or '', path); a '=' may be part of a path that exists."""
    name, found, path = text.partition("=")
    if found and (name in known or not Path(text).exists()):
        return name, Path(path)
    return "", Path(text)


def _only_name(text: str, program: Program, fetch: Sequence[str]) -> str:
    names = [v.name for v in for_test(program, fetch or None).block.inputs]
    if len(names) != 1:
        raise ArgumentError(
            f"which input is {text}?",
            expected=" or ".join(f"{n}={text}" for n in names) or "a model with inputs",
            got=text,
            hint="--fetch NAME, if an output needs fewer inputs",
        )
    return names[0]


def read_arrays(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of a .npy file, or those of a .npz file by name.

    Raises MissingError if there is no such file, FormatError if it cannot be read.
    """
    try:
        with open(path, "rb") as file:  # closed whatever NumPy does
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else {k: found[k] for k in found.files}
    except FileNotFoundError:
        raise MissingError("no such file", where=str(path)) from None
    except Exception as error:  # NumPy raises what it likes on broken files, zlib.error among it
        raise FormatError(
            "not a readable .npy or .npz file",
            where=str(path),
            got=str(error).split("\n")[0],
            hint="numpy.save(path, array)",
        ) from None


def _possible(program: Program, given: Mapping[str, np.ndarray]) -> list[str]:
    """The outputs that need no other inputs than those given."""
    needs = {n: {v.name for v in for_test(program, [n]).block.inputs} for n in program.outputs}
    possible = [n for n, inputs in needs.items() if inputs <= given.keys()]
    if not possible:
        raise MissingError(
            "inputs are missing" if given else "the model needs inputs",
            expected=", ".join(f"{v.name}: {v}" for v in program.block.inputs),
            got=", ".join(given) or "none",
            hint=" ".join(f"--input {n}=FILE.npy" for n in _fewest(needs)),
        )
    for n, inputs in needs.items():
        if n not in possible:
            note(f"{n} is left out: it needs {', '.join(sorted(inputs - given.keys()))} too")
    return possible


def _fewest(needs: Mapping[str, set[str]]) -> list[str]:
    return sorted(sorted(needs.values(), key=len)[0])


def _cast(given: Mapping[str, np.ndarray], inputs: Sequence[Value]) -> dict[str, np.ndarray]:
    """The arrays that are needed, in the dtypes wanted where nothing but precision is lost."""
    out = {}
    for v in inputs:
        if v.name not in given:
            raise MissingError(
                f"the input '{v.name}' is missing",
                expected=", ".join(f"{w.name}: {w}" for w in inputs),
                got=", ".join(given) or "none",
                hint=f"--input {v.name}=FILE.npy",
            )
        array = given[v.name]
        dtype = to_numpy(v.dtype)
        if array.dtype.kind not in "biufV" or not np.can_cast(array.dtype, dtype, "same_kind"):
            raise DTypeError(
                f"the input '{v.name}' has another dtype",
                expected=str(v),
                got=f"{array.dtype}{list(array.shape)}",
                hint=f"numpy.save(path, array.astype('{v.dtype}'))",
            )
        out[v.name] = array.astype(dtype)
    return out


# ---- outputs -------------------------------------------------------------------------------------


def _check_output(path: Path, names: Sequence[str]) -> None:
    one = path.suffix == ".npy" and len(names) == 1
    if path.suffix != ".npz" and not one:
        raise ArgumentError(
            "the outputs cannot be saved there",
            expected="FILE.npz" + (" or FILE.npy" if len(names) == 1 else ""),
            got=str(path),
        )


def _save(path: Path, out: Mapping[str, np.ndarray]) -> None:
    if path.suffix == ".npy":
        (array,) = out.values()
        atomic_write(path, lambda f: np.save(f, array))
    else:
        atomic_write(path, lambda f: np.savez(f, **out))  # type: ignore[arg-type]
