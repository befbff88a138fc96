"""`noria train RECIPE`."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from noria.core.errors import ArgumentError
from noria.train.trainer import History, Trainer
from noria.zoo.recipes import RECIPES, recipe


@click.command()
@click.argument("name", type=click.Choice(sorted(RECIPES)), metavar="RECIPE")
@click.option("--epochs", type=click.IntRange(1), help="Epochs to train in all.")
@click.option("--batch-size", type=click.IntRange(1), help="Examples per step.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory, default runs/RECIPE.")
@click.option("--data", type=click.Path(path_type=Path), help="Directory with the data's files.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Threads, default one per core.")
@click.option("--every", type=click.IntRange(1), help="Steps between checkpoints, besides epochs.")
@click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Checkpoints.")
@click.option("--patience", type=click.IntRange(1), help="Stop after so many epochs without gain.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint, bit for bit.")
@click.option("--fresh", is_flag=True, help="Remove an earlier run in the same directory.")
def command(
    name: str,
    epochs: int | None,
    batch_size: int | None,
    out: Path | None,
    data: Path | None,
    seed: int,
    threads: int | None,
    every: int | None,
    keep: int,
    patience: int | None,
    resume: bool,
    fresh: bool,
) -> None:
    """Train a model of the zoo.

    \b
    Recipes:
      digits          UCI handwritten digits, half a minute
      fashion-mnist   Fashion-MNIST in IDX files, some minutes

    \b
    Examples:
      noria train digits
      noria train digits --epochs 40 --patience 5 --out runs/longer
      noria train digits --resume
      noria train fashion-mnist --data ~/data/fashion-mnist
    """
    chosen = recipe(name)
    directory = out or Path("runs") / name
    _prepare(directory, resume, fresh)
    epochs = epochs or chosen.epochs
    reader, test = chosen.readers(batch_size or chosen.batch_size, seed, data)
    trainer = Trainer(
        chosen.program(epochs, len(reader)),
        reader,
        evaluation=test,
        directory=directory,
        every=every,
        keep=keep,
        patience=patience,
        seed=seed,
        threads=threads,
    )
    _report(trainer.fit(epochs, resume=resume), directory, name)


def _prepare(directory: Path, resume: bool, fresh: bool) -> None:
    used = (directory / "checkpoints").is_dir()
    if resume and fresh:
        raise ArgumentError("--resume and --fresh exclude each other")
    if used and fresh:
        for part in ("checkpoints", "events"):
            shutil.rmtree(directory / part, ignore_errors=True)
    elif used and not resume:
        raise ArgumentError(
            "this directory holds an earlier run",
            where=str(directory),
            hint="--resume to go on, --fresh to start over, --out DIR for another place",
        )


def _report(history: History, directory: Path, name: str) -> None:
    if history.stopped == "interrupted":
        click.echo(f"interrupted; go on with: noria train {name} --out {directory} --resume")
        raise SystemExit(130)
    if history.stopped == "early stop":
        click.echo("early stop: no better epoch for a while")
    click.echo(f"model: {directory / 'best.noria'}")
    click.echo(f"scalars: tensorboard --logdir {directory / 'events'}")
    click.echo(f"test accuracy: {history.last('accuracy'):.3f}")
