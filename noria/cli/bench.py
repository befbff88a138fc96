"""`noria bench MODEL`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from noria.cli.console import heading, print_table
from noria.cli.precision import precision_option
from noria.cli.progress import Stage, Tick, progress
from noria.cli.sizes import parse_sizes, sample_feeds
from noria.core.dims import symbols_of
from noria.core.flags import flags
from noria.ir.program import Value
from noria.ir.save import load
from noria.runtime.predictor import Predictor


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--size", multiple=True, metavar="N=1,16,64", help="Sizes to time, default 1.")
@click.option("--fetch", multiple=True, metavar="NAME", help="Outputs to compute, default all.")
@click.option("--threads", type=click.IntRange(1), help="Default: one per core.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="For each size.",
)
@click.option(
    "--reference/--no-reference", default=True, help="Time the NumPy reference too (default)."
)
@precision_option
def command(
    model: Path,
    size: tuple[str, ...],
    fetch: tuple[str, ...],
    threads: int | None,
    seconds: float,
    reference: bool,
) -> None:
    """Time a saved model: latency and throughput.

    One call after the other, on random arrays; the first call of a size, which plans its memory,
    is not counted. `of reference` is the median beside that of the NumPy reference of each op.

    \b
    Examples:
      noria bench best.noria --size N=1,16,64
      noria bench best.noria --size N=1 --fetch logits --threads 1 --seconds 5
    """
    program, state = load(model)
    predictors = [Predictor(program, state, outputs=fetch or None, threads=threads)]
    if reference:
        with flags.set(kernels="reference"):
            predictors.append(Predictor(program, state, outputs=fetch or None, threads=threads))
    fast = predictors[0]
    sizes = parse_sizes(size, fast.inputs)
    cases = [dict(zip(sizes, c, strict=True)) for c in itertools.product(*sizes.values())]
    rows = []
    with progress(len(cases) * len(predictors)) as stage:
        for case in cases:
            times = [_time(p, case, seconds, stage) for p in predictors]
            rows.append([*case.values(), *_cells(times, _samples(fast.inputs, case))])
    heading(f"{program.name}: {', '.join(fast.names)}; threads: {fast.threads}")
    titles = [">median ms", ">p90 ms", ">samples/s", ">of reference"]
    print_table([*(f">{name}" for name in sizes), *titles[: 2 + len(predictors)]], rows)


# ---- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each run."""

    seconds: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def p90(self) -> float:
        return float(np.percentile(self.seconds, 90))

    @property
    def mean(self) -> float:
        return float(self.seconds.mean())


def measure(run: Callable[[], object], seconds: float, tick: Tick = lambda share: None) -> Times:
    """Run again and again for about so many seconds, after one run that is not counted.

    If that first run alone took longer, it is what is told.
    """
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    if first > seconds:
        tick(1.0)
        return Times(np.array([first]))
    times: list[float] = []
    spent = 0.0
    while spent < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        spent += times[-1]
        tick(spent / seconds)
    return Times(np.array(times))


def _samples(inputs: Sequence[Value], sizes: Mapping[str, int]) -> int:
    """Examples in a batch: the first size of the first input, where that is a symbol."""
    if not inputs or not inputs[0].shape:
        return 1
    names = symbols_of(inputs[0].shape[:1])
    return sizes[next(iter(names))] if len(names) == 1 else 1


def _time(predictor: Predictor, case: Mapping[str, int], seconds: float, stage: Stage) -> Times:
    feeds = sample_feeds(predictor.inputs, case)
    engine = "engine" if predictor.plan.engines else "reference"
    label = " ".join([engine, *(f"{k}={v}" for k, v in case.items())])
    return measure(lambda: predictor.run(feeds), seconds, stage(label))


def _cells(times: Sequence[Times], samples: int) -> list[str]:
    fast = times[0]
    cells = [f"{fast.median * 1e3:,.3f}", f"{fast.p90 * 1e3:,.3f}", f"{samples / fast.mean:,.0f}"]
    return [*cells, *(f"{fast.median / slow.median:.2%}" for slow in times[1:])]
