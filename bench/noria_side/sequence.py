"""Recurrent networks in noria."""

from __future__ import annotations

from collections.abc import Callable

from bench.noria_side.common import Run

MAKERS: dict[str, Callable[[], Run]] = {}
