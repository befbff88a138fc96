"""`--precision`, the same for all commands that run or plan a model."""

from __future__ import annotations

from typing import Any

import click

from noria.core.flags import Flags, flags


def _set(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.with_resource(flags.set(precision=value))


def precision_option(command: Any) -> Any:
    """Decorates a command: the flag `precision` has the value given while the command runs."""
    return click.option(
        "--precision",
        type=click.Choice(["float32", "bf16"]),
        expose_value=False,
        callback=_set,
        help=f"Of products and what lies between them. Default: {Flags.precision.env}, or float32.",
    )(command)
