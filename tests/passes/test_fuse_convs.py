"""Which convolutions become one operator, and that it computes the same."""

from types import SimpleNamespace

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.interpret import run_program
from noria.passes import fuse_convs as module
from noria.passes.fuse_convs import fuse_convs
from tests.passes.programs import apply, program, reasons, types

TEXT = """
  input x: float32[N, {ins}, 9, {wide}]
  state u: float32[20, {ins}, 1, 1] = uniform(low=-0.5, high=0.5){trained}
  state d: float32[20, 1, 3, 3] = uniform(low=-0.5, high=0.5)
  state w: float32[4, 20, {taps}, 1] = uniform(low=-0.5, high=0.5)
  up: float32[N, 20, 9, {wide}] = fused_conv2d(x, u, activation="{first}")
  each: float32[N, 20, 9, {wide}] = fused_conv2d(up, d, padding=1, groups=20, activation="{act}")
  {last}
  output y = y
  {outputs}
"""
LAST = "y: float32[N, 4, 9, 8] = conv2d(each, w)"
ADDED = "y: float32[N, 4, 9, 8] = fused_conv2d(each, w, _, x)"
KEYS = {"ins": 4, "wide": 8, "taps": 1, "first": "relu6", "act": "relu"}
KEYS |= {"last": LAST, "outputs": "", "trained": ""}


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setattr(module, "caches", lambda: SimpleNamespace(second=0))


def fused(**keys):
    before = program(TEXT.format(**{**KEYS, **keys}))
    after, report = apply(fuse_convs, before)
    return before, after, report


@pytest.mark.parametrize("last", [LAST, ADDED])
def test_an_inverted_residual_block_becomes_one_operator(last):
    before, after, report = fused(last=last)
    assert types(after) == ["fused_convs"] and "3 convolutions" in report.fired[0]
    rng = np.random.default_rng(0)
    state = {n: rng.standard_normal(s.value.shape, np.float32) for n, s in before.state.items()}
    feeds = {"x": rng.standard_normal((2, 4, 9, 8), np.float32)}
    want, _ = run_program(before, feeds, state)
    got, _ = run_program(after, feeds, state)
    np.testing.assert_array_equal(got["y"], want["y"])


def test_what_fits_the_cache_stays_apart(monkeypatch):
    monkeypatch.setattr(module, "caches", lambda: SimpleNamespace(second=20 * 9 * 8 * 4))
    _, after, report = fused()
    assert types(after) == ["fused_conv2d", "fused_conv2d", "conv2d"]
    assert "stay in the cache" in " ".join(reasons(report))


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        ({"outputs": "output up = up"}, ["fused_conv2d", "fused_convs"]),
        ({"first": "gelu"}, ["fused_conv2d", "fused_convs"]),
    ],
)
def test_the_first_may_stay_alone(keys, left):
    assert types(fused(**keys)[1]) == left


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"outputs": "output each = each"}, "used by several"),
        ({"act": "gelu"}, "its activation is gelu"),
        ({"wide": "S", "last": LAST.replace("8]", "S]")}, "sizes are open"),
        ({"last": LAST.replace("9, 8]", "7, 8]"), "taps": 3}, "several taps"),
        ({"last": "y: float32[N, 20, 9, 8] = abs(each)"}, "goes to abs"),
    ],
)
def test_what_keeps_all_apart(keys, reason):
    _, after, report = fused(**keys)
    assert "fused_convs" not in types(after) and reason in " ".join(reasons(report))


def test_a_weight_that_changes_keeps_its_convolution_apart():
    update = "n: float32[20, 4, 1, 1] = neg(u)\nupdate u = n"
    _, after, _ = fused(trained=" trainable", outputs=update)
    assert types(after)[:2] == ["fused_conv2d", "fused_convs"]


def test_other_products_than_strict_ones_are_left_alone():
    with flags.set(fpmath="bf16"):
        _, after, report = fused()
    assert "fused_convs" not in types(after) and "not all is float32" in " ".join(reasons(report))
