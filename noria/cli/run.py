"""`noria run MODEL`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, FormatError
from noria.core.files import atomic_write
from noria.runtime.predictor import Predictor


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE.npy",
    help="An input; the name may be left out if the model has one input.",
)
@click.option("--fetch", multiple=True, metavar="NAME", help="Outputs to compute, default all.")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE.npz", help="Where to save outputs."
)
@click.option("--threads", type=click.IntRange(1))
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
      noria run best.noria --input image=x.npy --fetch logits --output y.npz
    """
    predictor = Predictor.load(model, outputs=fetch or None, threads=threads)
    dtypes = {v.name: v.dtype for v in predictor.inputs}
    feeds = {}
    for text in inputs:
        name, path = _split(text, list(dtypes))
        array = _read(path)
        if name in dtypes:
            array = array.astype(to_numpy(dtypes[name]), casting="same_kind")
        feeds[name] = array
    out = predictor.run(feeds)
    if output is not None:
        atomic_write(output, lambda f: np.savez(f, **out))
    for name, array in out.items():
        click.echo(f"{name}: {array.dtype}{list(array.shape)}")
        if output is None:
            click.echo(np.array2string(array, threshold=40, precision=4))
    sys.stdout.flush()


def _split(text: str, names: list[str]) -> tuple[str, Path]:
    name, found, path = text.partition("=")
    if found:
        return name, Path(path)
    if len(names) != 1:
        raise ArgumentError(
            f"which input is {text}?",
            expected=" or ".join(f"{n}={text}" for n in names),
            got=text,
        )
    return names[0], Path(text)


def _read(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FormatError("not a readable .npy file", where=str(path), got=str(error)) from None
