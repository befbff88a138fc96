"""`noria train RECIPE`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from noria.cli.precision import precision_option
from noria.cli.settings import Settings, clear_run, is_used, load_settings, save_settings
from noria.core.errors import ArgumentError
from noria.ir.program import Program
from noria.train.trainer import History, Trainer
from noria.zoo.recipes import RECIPES, Recipe, recipe

_HELP = "\n".join(
    [
        "Train a model of the zoo.",
        "",
        "Ctrl-C saves a checkpoint and stops; --resume goes on from the newest one.",
        "",
        "\b",
        "Recipes:",
        *(f"  {r.name:<15} {r.about}" for r in RECIPES.values()),
        "",
        "\b",
        "Examples:",
        "  noria train digits",
        "  noria train digits --epochs 40 --patience 5 --out runs/longer",
        "  noria train digits --resume",
        "  noria train fashion-mnist --data ~/data/fashion-mnist",
    ]
)


@click.command(help=_HELP)
@click.argument("name", type=click.Choice(sorted(RECIPES)), metavar="RECIPE")
@click.option("--epochs", type=click.IntRange(1), help="Epochs to train in all.")
@click.option("--batch-size", type=click.IntRange(1), help="Examples per step.")
@click.option("--seed", type=click.IntRange(0), help="Of parameters and order, default 0.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory, default runs/RECIPE.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory with the data's files.",
)
@click.option("--threads", type=click.IntRange(1), help="Default: one per core.")
@click.option("--every", type=click.IntRange(1), help="Steps between checkpoints, besides epochs.")
@click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Checkpoints.")
@click.option("--patience", type=click.IntRange(1), help="Stop after so many epochs without gain.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint, bit for bit.")
@click.option("--fresh", is_flag=True, help="Remove an earlier run in the same directory.")
@precision_option
def command(
    name: str,
    out: Path | None,
    data: Path | None,
    threads: int | None,
    every: int | None,
    keep: int,
    patience: int | None,
    resume: bool,
    fresh: bool,
    **wanted: int | None,
) -> None:
    chosen = recipe(name)
    directory = out or Path("runs") / name
    settings = _prepare(chosen, directory, wanted, resume, fresh)
    reader, test = chosen.readers(settings.batch_size, settings.seed, data)
    trainer = Trainer(
        chosen.program(settings.epochs, len(reader)),
        reader,
        evaluation=test,
        directory=directory,
        every=every,
        keep=keep,
        patience=patience,
        seed=settings.seed,
        threads=threads,
    )
    if not resume:
        clear_run(directory)  # as late as possible: what is told wrong costs no earlier run
    save_settings(directory, settings)
    _announce(chosen, trainer.program, len(reader.dataset), len(test), trainer.executor.threads)
    try:
        history = trainer.fit(settings.epochs, resume=resume)
    except KeyboardInterrupt:
        click.echo("stopped at once: --resume goes on from the last checkpoint, if there is one")
        raise SystemExit(130) from None
    _report(history, directory, name)


def _prepare(
    chosen: Recipe, directory: Path, wanted: dict[str, int | None], resume: bool, fresh: bool
) -> Settings:
    """The settings of the run, for which the directory is free or to be freed."""
    if resume and fresh:
        raise ArgumentError("--resume and --fresh exclude each other")
    if directory.exists() and not directory.is_dir():
        raise ArgumentError("not a directory", where=str(directory), hint="--out DIR")
    if resume:
        return load_settings(directory).must_agree(chosen.name, wanted)
    if is_used(directory) and not fresh:
        raise ArgumentError(
            "this directory holds an earlier run",
            where=str(directory),
            hint="--resume to go on, --fresh to start over, --out DIR for another place",
        )
    return Settings(
        recipe=chosen.name,
        epochs=wanted["epochs"] or chosen.epochs,
        batch_size=wanted["batch_size"] or chosen.batch_size,
        seed=wanted["seed"] or 0,
    )


def _announce(chosen: Recipe, program: Program, train: int, test: int, threads: int) -> None:
    sizes = [s.value.shape for s in program.state.values() if s.trainable]
    count = sum(int(np.prod([int(d) for d in shape])) for shape in sizes)
    cores = f"{threads} thread{'s' if threads > 1 else ''}"
    click.echo(
        f"{chosen.name}: {count:,} parameters, {train:,} images to learn from, "
        f"{test:,} to test with, {cores}"
    )


def _report(history: History, directory: Path, name: str) -> None:
    if history.stopped == "interrupted":
        click.echo(f"interrupted; go on with: noria train {name} --out {directory} --resume")
        raise SystemExit(130)
    if history.stopped == "early stop":
        click.echo("early stop: no better epoch for a while")
    best = max(history.rows, key=lambda row: row["accuracy"])
    found = f"{best['accuracy']:.3f} after epoch {best['epoch']:.0f}"
    if (directory / "events").is_dir():
        click.echo(f"scalars: tensorboard --logdir {directory / 'events'}")
    click.echo(f"best model: {directory / 'best.noria'}, {found}  (noria show, run, bench)")
    click.echo(f"test accuracy: {history.last('accuracy'):.3f}")
