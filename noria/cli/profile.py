"""`noria profile TARGET`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from click.shell_completion import CompletionItem

from noria.cli.console import console, heading, note, plain, print_table
from noria.cli.precision import precision_option
from noria.cli.progress import progress
from noria.cli.sizes import one_each, parse_sizes, sample_feeds
from noria.core.errors import MissingError, nearest
from noria.ir.program import Program
from noria.ir.save import load
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from noria.runtime.profiling.profile import Profile, profile
from noria.runtime.profiling.text import GROUPS, SORTS, summary, tables
from noria.runtime.scope import Scope
from noria.zoo.samples import SAMPLES, Feeds, Sample

State = Mapping[str, np.ndarray]

_FILE = click.Path(dir_okay=False, path_type=Path)


class _Target(click.Path):
    """A saved model, or the name of a sample; both complete."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = [CompletionItem(n, help=s.about) for n, s in SAMPLES.items()]
        found = [item for item in names if item.value.startswith(incomplete)]
        return [*found, *super().shell_complete(ctx, param, incomplete)]


_HELP = "\n".join(
    [
        "Tell where the time of a step goes.",
        "",
        "TARGET is a saved model, or one of the training Programs below. A Program that updates "
        "state is profiled as a training step (its state is put back afterwards), any other one "
        "as a Predictor runs it.",
        "",
        "`floor` is what this machine cannot beat: a step's bytes at the measured bandwidth, its "
        "operations at the rate of a large matrix product. `lost` is the time above it; the "
        "largest loss is on top. The percentages are of these peaks.",
        "",
        "\b",
        "Samples:",
        *(f"  {name:<15} {s.about}" for name, s in SAMPLES.items()),
        "",
        "\b",
        "Examples:",
        "  noria profile resnet50 --size N=16 --steps 5",
        "  noria profile resnet50 --trace step.json --memory memory.svg",
        "  noria profile best.noria --size N=64 --group layer",
        "  noria profile resnet50 --test --size N=1 --sort time --top 10",
    ]
)


@click.command(help=_HELP)
@click.argument("target", type=_Target(path_type=Path))
@click.option("--size", multiple=True, metavar="N=16", help="Sizes; default the sample's, or 1.")
@click.option("--fetch", multiple=True, metavar="NAME", help="Outputs to compute, default all.")
@click.option("--test", is_flag=True, help="The test form of a training Program.")
@precision_option
@click.option("--threads", type=click.IntRange(1), help="Default: one per core.")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Runs.")
@click.option(
    "--top", type=click.IntRange(0), default=20, show_default=True, help="Rows; 0 for all."
)
@click.option(
    "--sort", type=click.Choice(list(SORTS)), default="lost", show_default=True, help="By what."
)
@click.option("--group", type=click.Choice(list(GROUPS)), help="Add up steps by this.")
@click.option("--denormals", is_flag=True, help="Warn of results with many denormal numbers.")
@click.option("--trace", type=_FILE, metavar="FILE.json", help="A timeline for Perfetto.")
@click.option("--memory", type=_FILE, metavar="FILE.svg", help="A chart of memory over the step.")
@click.option("--picture", type=_FILE, metavar="FILE.svg", help="The step at one glance.")
@click.option("--json", "numbers", type=_FILE, metavar="FILE.json", help="All numbers.")
@click.option("--color/--no-color", default=True, help="Colours on a terminal (default).")
def command(
    target: Path,
    size: tuple[str, ...],
    fetch: tuple[str, ...],
    test: bool,
    threads: int | None,
    steps: int,
    top: int,
    sort: str,
    group: str | None,
    denormals: bool,
    trace: Path | None,
    memory: Path | None,
    picture: Path | None,
    numbers: Path | None,
    color: bool,
) -> None:
    program, state, sample = _load(target)
    runner = _runner(program, state, test, fetch, threads)
    feeds = _feeds(runner.program, size, sample)
    names = None if isinstance(runner, Predictor) else fetch or None
    with progress(1) as stage:
        found = profile(
            runner, feeds, names, steps=steps, denormals=denormals, tick=stage(str(target))
        )
    with plain(not color):
        _show(found, top, sort, group)
    written = (
        (trace, "timeline, to be opened at https://ui.perfetto.dev", found.to_chrome_trace),
        (memory, "memory over the step", found.memory_chart),
        (picture, "the step at one glance", found.picture),
        (numbers, "all numbers", found.to_json),
    )
    for path, what, write in written:
        if path is not None:
            write(path)
            note(f"{path}: {what}")


def _load(target: Path) -> tuple[Program, State, Sample | None]:
    """(Program, its saved state, the sample it is)."""
    name = str(target)
    if name in SAMPLES and not target.exists():
        return SAMPLES[name].program(), {}, SAMPLES[name]
    if not target.exists() and target.suffix != ".noria":
        raise MissingError(f"no file and no sample is called '{name}'", hint=nearest(name, SAMPLES))
    return *load(target), None


def _feeds(program: Program, texts: tuple[str, ...], sample: Sample | None) -> Feeds:
    """Arrays of the sizes that are wanted, else usual."""
    given = parse_sizes(texts, program.block.inputs)
    named = {text.partition("=")[0] for text in texts}
    usual = {} if sample is None else sample.sizes
    sizes = one_each({n: v if n in named else [usual.get(n, v[0])] for n, v in given.items()})
    if sample is None:
        return sample_feeds(program.block.inputs, sizes)
    return sample.feeds(program, sizes)


def _runner(
    program: Program, state: State, test: bool, fetch: tuple[str, ...], threads: int | None
) -> Executor | Predictor:
    if program.updates and not test:
        scope = Scope().initialize(program, values=state)
        return Executor(program, scope, threads=threads)
    if not state:
        tested = for_test(program, fetch or None)
        state = Scope().initialize(tested).state()
    return Predictor(program, state, outputs=fetch or None, threads=threads)


def _show(found: Profile, top: int, sort: str, group: str | None) -> None:
    for line in summary(found):
        console().print(line, markup=False)
    for table in tables(found, top=top, sort=sort, group=group):
        heading(table.heading)
        print_table(table.titles, table.rows, table.note)
