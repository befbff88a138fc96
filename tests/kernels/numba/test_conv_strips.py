"""Convolutions strip by strip, beside the interpreter: borders, remainders, special numbers."""

import numpy as np
import pytest

import noria.ops.fused_convs  # noqa: F401  (importing a family registers its ops)
from noria.core.flags import flags
from noria.ir.interpret import run_program
from noria.ir.text import parse_program
from noria.ir.verify import verify
from noria.kernels.numba import conv_strips, parallel, strip_calls
from noria.runtime.executor import Executor

pytestmark = pytest.mark.usefixtures("fast_kernels")


def made(ins, mid, outs, image, stride=1, first=True, residual=False, stem=False, padding=1):
    """x -> [mid] -> depthwise -> outs, with biases and activations."""
    high, wide = image
    start = (
        (
            f"u: float32[N, {mid}, {(high - 1) // 2 + 1}, {(wide - 1) // 2 + 1}] = "
            'fused_conv2d(x, a, ab, stride=2, padding=1, activation="relu")'
        )
        if stem
        else f'u: float32[N, {mid}, {high}, {wide}] = fused_conv2d(x, a, ab, activation="relu6")'
    )
    if stem:
        high, wide = (high - 1) // 2 + 1, (wide - 1) // 2 + 1
    if not first:
        start, ins = "", mid
    rows, columns = ((n + 2 * padding - 3) // stride + 1 for n in (high, wide))
    down, taps = f"float32[N, {outs}, {rows}, {columns}]", 3 if stem else 1
    inputs = {"x": f"float32[N, {ins}, {image[0]}, {image[1]}]"}
    if first:
        inputs |= {"a": f"float32[{mid}, {ins}, {taps}, {taps}]", "ab": f"float32[{mid}]"}
    inputs |= {"d": f"float32[{mid}, 1, 3, 3]", "db": f"float32[{mid}]"}
    inputs |= {"w": f"float32[{outs}, {mid}, 1, 1]"}
    lines = "\n".join(f"state {n}: {t} = fill(value=0.0)" for n, t in inputs.items() if n != "x")
    more = ", _, x" if residual else ""
    program = parse_program(f"""program p {{
      input x: {inputs["x"]}
      {lines}
      y: {down} = fused_convs({", ".join(inputs)}) {{
        body({", ".join(f"{n}: {t}" for n, t in inputs.items())}) {{
          {start}
          e: float32[N, {mid}, {rows}, {columns}] = fused_conv2d({"u" if first else "x"}, d, db,
            stride={stride}, padding={padding}, groups={mid}, activation="relu6")
          y: {down} = fused_conv2d(e, w{more})
          return y
        }}
      }}
      output y = y
    }}""")
    verify(program)
    return program


def agree(program, batch=2, threads=2, special=False):
    """The engine gives what the interpreter gives; how it ran."""
    rng = np.random.default_rng(0)
    state = {n: rng.standard_normal(s.value.shape, np.float32) for n, s in program.state.items()}
    x = rng.standard_normal((batch, *program.inputs["x"].shape[1:]), np.float32)
    if special:
        x[0, 0, 0, 0], x[-1, -1, -1, -1], x[0, 0, 3, 2] = np.nan, np.inf, -np.inf
    with flags.set(check_memory=True), parallel.always():
        executor = Executor(program, optimized=True, threads=threads)
        for name, value in state.items():
            executor.scope[name] = value
        got = [executor.run({"x": x})["y"] for _ in range(2)]
        bound = executor.bound({"x": x})
    with np.errstate(all="ignore"):
        want, _ = run_program(program, {"x": x}, state)
    for one in got:
        np.testing.assert_allclose(one, want["y"], rtol=2e-4, atol=2e-4)
    (item,) = [i for i in bound.items if i.step.op.type == "fused_convs"]
    assert item.kernel is not None and item.kernel.name == "numba:conv_strips"
    return item.prepared.detail


@pytest.fixture(params=[0, 6000, 1 << 20])
def strips(monkeypatch, request):
    """Strips of one row, of some, of all of an image; never in turn."""
    monkeypatch.setattr(conv_strips, "STRIP", request.param)
    monkeypatch.setattr(conv_strips, "MOST", 1e9)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(3, 17, 7), (16, 48, 16), (24, 33, 24), (7, 16, 40)])
def test_blocks_of_three(strips, channels, stride, threads):
    assert "rows at a time" in agree(made(*channels, (11, 9), stride), threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("image", [(13, 8), (12, 21), (3, 3), (1, 2)])
def test_an_image_in_planes_comes_first(strips, image, threads):
    agree(made(3, 32, 16, image, stem=True), threads=threads)


@pytest.mark.parametrize("image", [(5, 17), (1, 1), (2, 30)])
def test_blocks_of_two(strips, image):
    agree(made(0, 24, 20, image, first=False), batch=3)


@pytest.mark.parametrize("special", [False, True])
def test_a_residual_and_special_numbers(strips, special):
    agree(made(24, 40, 24, (9, 10), residual=True), threads=3, special=special)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("stem", [False, True])
def test_in_turn_where_strips_would_do_too_much_twice(monkeypatch, threads, stem):
    monkeypatch.setattr(conv_strips, "MOST", 0.0)
    program = made(3, 24, 17, (9, 12), stride=2, stem=stem)
    assert agree(program, threads=threads, special=True) == "in turn"
    assert agree(made(17, 24, 17, (9, 12), residual=True), threads=threads) == "in turn"


@pytest.mark.parametrize("most, how", [(0.0, "in turn"), (1e9, "rows at a time")])
def test_images_whose_last_row_no_window_sees(monkeypatch, most, how):
    monkeypatch.setattr(conv_strips, "MOST", most)
    for first in (True, False):
        program = made(16, 24, 17, (10, 12), stride=2, first=first, padding=0)
        assert how in agree(program, batch=3)


def test_few_rows_for_many_threads_are_taken_in_turn():
    assert agree(made(3, 24, 17, (6, 12)), batch=1, threads=4) == "in turn"
    assert "rows at a time" in agree(made(3, 24, 17, (60, 12)), batch=1, threads=2)


def test_no_images():
    program = made(3, 24, 17, (6, 12))
    executor = Executor(program, optimized=True)
    assert executor.run({"x": np.zeros((0, 3, 6, 12), np.float32)})["y"].shape == (0, 17, 6, 12)


@pytest.mark.parametrize("threads", [2, 3])
def test_strips_of_threads_that_do_not_come_are_made_by_others(strips, monkeypatch, threads):
    monkeypatch.setattr(strip_calls, "parallel", lambda call, **work: call)
    for program in (made(3, 24, 17, (9, 12)), made(3, 32, 16, (13, 8), stem=True)):
        assert "rows at a time" in agree(program, batch=1, threads=threads, special=True)


def test_where_strips_are_many_each_thread_keeps_its_own(strips, monkeypatch):
    monkeypatch.setattr(conv_strips, "LISTS", 0)
    agree(made(3, 24, 17, (9, 12)), threads=2, special=True)
