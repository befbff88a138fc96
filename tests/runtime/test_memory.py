"""Memory planning: no two live buffers overlap, and little is wasted."""

from __future__ import annotations

import time

import numpy as np
import pytest

import noria.runtime.memory as planning
from noria.core.errors import EngineError
from noria.runtime.memory import Buffer, check_plan, peak_bytes, place


@pytest.fixture(params=["quick", "thorough"])
def effort(request, monkeypatch):
    """Whether an arena that wastes little is good enough."""
    if request.param == "thorough":
        monkeypatch.setattr(planning, "NOTHING", 0)


def buffers_of(spec: list[tuple[int, int, int]]) -> list[Buffer]:
    return [Buffer(f"b{i}", n, first, last) for i, (n, first, last) in enumerate(spec)]


def test_disjoint_lives_share_memory() -> None:
    buffers = buffers_of([(256, 0, 1), (256, 2, 3)])
    assert place(buffers) == 256
    assert buffers[0].offset == buffers[1].offset == 0


def test_touching_lives_do_not_share_memory() -> None:
    buffers = buffers_of([(256, 0, 2), (256, 2, 3)])
    assert place(buffers) == 512


def test_a_gap_between_live_buffers_is_used(effort) -> None:
    buffers = buffers_of([(640, 0, 9), (640, 0, 3), (640, 0, 9), (64, 5, 6)])
    total = place(buffers)
    assert total == 640 * 3
    check_plan(buffers, total)


def test_pinned_and_empty_buffers_take_no_arena() -> None:
    buffers = [Buffer("state", 1024, 0, 9, address=4096), Buffer("empty", 0, 0, 9)]
    assert place(buffers) == 0
    check_plan(buffers, 0)


def test_a_large_buffer_does_not_wait_for_small_ones_to_make_room() -> None:
    """In the order of lives the last one finds two gaps that are too small."""
    m = 1 << 20
    buffers = buffers_of([(8 * m, 0, 1), (m, 1, 5), (8 * m, 0, 2), (16 * m, 3, 5)])
    total = place(buffers)
    check_plan(buffers, total)
    assert total == peak_bytes(buffers) == 17 * m


@pytest.mark.parametrize("seed", range(20))
def test_random_plans_are_safe_and_tight(seed: int, effort) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 100, 150)
    spec = [
        (int(n), int(a), int(a + d))
        for n, a, d in zip(
            rng.integers(1, 10_000, 150), first, rng.integers(0, 20, 150), strict=True
        )
    ]
    buffers = buffers_of(spec)
    total = place(buffers)
    check_plan(buffers, total)
    peak = peak_bytes(buffers)
    assert peak <= total <= 1.4 * peak + 64 * 150
    assert all(b.offset % 64 == 0 for b in buffers)


def test_checker_finds_an_overlap() -> None:
    buffers = buffers_of([(256, 0, 2), (256, 1, 3)])
    place(buffers)
    buffers[1].offset = buffers[0].offset + 64
    with pytest.raises(EngineError, match="overlap while both are alive"):
        check_plan(buffers, 4096)


def test_checker_finds_a_buffer_outside_the_arena() -> None:
    buffers = buffers_of([(256, 0, 2)])
    place(buffers)
    with pytest.raises(EngineError, match="outside the arena"):
        check_plan(buffers, 128)


def test_four_thousand_buffers_are_placed_quickly() -> None:
    rng = np.random.default_rng(0)
    first, sizes = rng.integers(0, 4000, 4000), rng.integers(64, 1 << 20, 4000)
    spec = [(int(n), int(a), int(a) + 5) for n, a in zip(sizes, first, strict=True)]
    start = time.perf_counter()
    buffers = buffers_of(spec)
    check_plan(buffers, place(buffers))
    assert time.perf_counter() - start < 5
