"""Sizes given on the command line, `--size N=8`, and arrays of those sizes for a Program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from noria.core.dims import evaluate, symbols_of
from noria.core.dtypes import is_float, to_numpy
from noria.core.errors import ArgumentError, MissingError, nearest
from noria.ir.program import Value


def parse_sizes(texts: Iterable[str], inputs: Sequence[Value]) -> dict[str, list[int]]:
    """`("N=1,16",)` -> {"N": [1, 16]}; sizes of the inputs that are not named are 1.

    Raises ArgumentError for another form or a number below 1, MissingError for an unknown size.
    """
    known = sorted({name for v in inputs for name in symbols_of(v.shape)})
    sizes = {name: [1] for name in known}
    for text in texts:
        name, _, numbers = text.partition("=")
        sizes_of_name = [int(n) if n.isascii() and n.isdigit() else 0 for n in numbers.split(",")]
        if min(sizes_of_name) < 1:
            raise ArgumentError(
                "not a size", expected="NAME=NUMBER, as in N=8", got=text, hint="--size N=8"
            )
        if name not in sizes:
            raise MissingError(f"no input has a size '{name}'", hint=nearest(name, known))
        sizes[name] = sizes_of_name
    return sizes


def one_each(sizes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The sizes, if there is one for each name. Raises ArgumentError."""
    for name, numbers in sizes.items():
        if len(numbers) > 1:
            raise ArgumentError(
                f"one size at a time, please, for '{name}'",
                expected=f"{name}={numbers[0]}",
                got=f"{name}={','.join(map(str, numbers))}",
            )
    return {name: numbers[0] for name, numbers in sizes.items()}


def sample_feeds(inputs: Sequence[Value], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Arrays of these sizes: normal random floats, zeros of other dtypes (a valid id anywhere)."""
    rng = np.random.default_rng(0)
    out = {}
    for v in inputs:
        shape = tuple(evaluate(d, sizes) for d in v.shape)
        values = rng.standard_normal(shape) if is_float(v.dtype) else np.zeros(shape)
        out[v.name] = values.astype(to_numpy(v.dtype))
    return out
