"""Inference from many threads, at any batch size, from a saved file."""

import resource
import threading
import tracemalloc

import numpy as np
import pytest

from noria.core.errors import DTypeError, FormatError, MissingError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ir.save import save
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from tests.runtime.programs import N, build, feeds_of, floats, mlp, value


def made(program):
    run = Executor(program)
    return Predictor(program, run.scope.state()), run


def test_it_gives_what_the_executor_gives_at_any_batch_size():
    predictor, run = made(mlp(8, 16, 4))
    for n in (1, 5, 64, 1, 0):
        x = floats(n, 8, seed=n)
        np.testing.assert_allclose(predictor(x=x), run.run({"x": x})["y"], rtol=2e-5, atol=1e-6)


def test_many_threads_at_different_sizes():
    predictor, _ = made(mlp(16, 64, 64, 4))
    feeds = [floats(1 + 7 * i, 16, seed=i) for i in range(8)]
    wanted = [predictor(x=x) for x in feeds]
    wrong: list[int] = []

    def work(i: int) -> None:
        for k in range(40):
            j = (i + k) % 8
            if not np.array_equal(predictor(x=feeds[j]), wanted[j]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(120)
    assert not wrong and not any(w.is_alive() for w in workers)


def test_training_parts_and_unneeded_inputs_are_dropped():
    def fn(b):
        x, label = b.input("x", (N, 4)), b.input("label", (N,), "int64")
        scores = o.linear(x, value(b, "w"))
        losses, _ = o.softmax_cross_entropy(scores, label)
        b.update("w", o.mul(value(b, "w"), 0.5))
        return {"scores": scores, "loss": o.reduce_mean(losses)}

    program = build(fn, w=floats(3, 4))
    w = floats(3, 4)
    predictor = Predictor(program, {"w": w}, outputs=["scores"])
    x = floats(2, 4, seed=3)
    for _ in range(2):
        np.testing.assert_allclose(predictor(x=x), x @ w.T, rtol=1e-5, atol=1e-6)
    with pytest.raises(MissingError, match="no input 'label'"):
        predictor(x=x, label=np.zeros(2, np.int64))


def test_several_outputs_come_as_a_dict():
    program = build(lambda b: {"a": o.neg(b.input("x", (N,))), "b": o.fill(shape=(2,), value=1.0)})
    got = Predictor(program, {})(x=floats(3))
    assert set(got) == {"a", "b"}


def test_a_saved_model_loads_and_runs(tmp_path):
    program = mlp(4, 8, 2)
    run = Executor(program)
    for name in ("model.noria", "folder"):
        save(program, tmp_path / name, run.scope.state())
        got = Predictor.load(tmp_path / name)(x=floats(3, 4))
        np.testing.assert_allclose(got, run.run({"x": floats(3, 4)})["y"], rtol=1e-5, atol=1e-6)


def test_missing_numbers_and_broken_files_are_told(tmp_path):
    with pytest.raises(MissingError, match="no numbers for state"):
        Predictor(mlp(4, 2), {})
    (tmp_path / "bad.noria").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(FormatError):
        Predictor.load(tmp_path / "bad.noria")


@pytest.mark.usefixtures("fast_kernels")  # the reference is NumPy, which allocates as it goes
def test_a_call_allocates_its_result_and_nothing_else():
    predictor, _ = made(mlp(64, 256, 256, 4))
    x = floats(32, 64)
    for _ in range(3):
        predictor(x=x)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [predictor(x=x) for _ in range(50)]
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(kept) == 50
    assert grown < 50 * (32 * 4 * 4 + 600)


def test_weights_written_later_count():
    program = build(lambda b: {"y": o.linear(b.input("x", (N, 4)), value(b, "w"))}, w=floats(3, 4))
    predictor = Predictor(program, {"w": floats(3, 4)})
    x = floats(2, 4, seed=9)
    predictor(x=x)
    predictor.scope["w"] = np.ones((3, 4), np.float32)
    np.testing.assert_allclose(predictor(x=x), x @ np.ones((4, 3), np.float32), rtol=1e-5)
    assert feeds_of(program, N=2)["x"].shape == (2, 4)


@pytest.mark.usefixtures("fast_kernels")
def test_a_call_with_arrays_for_its_outputs_allocates_no_memory():
    predictor, _ = made(mlp(64, 256, 512))
    x, out = floats(128, 64), {"y": np.empty((128, 512), np.float32)}
    want = predictor(x=x).copy()
    for _ in range(3):
        assert predictor.run({"x": x}, out)["y"] is out["y"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    predictor.run({"x": x}, out)
    tracemalloc.reset_peak()
    start = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        predictor.run({"x": x}, out)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    small = 16_000  # bytes: frames, keys and locks of Python's; an output has 256 KiB
    assert now - start < small and peak - start < small
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512  # KiB
    np.testing.assert_array_equal(out["y"], want)


def test_streams_write_into_arrays_too():
    program = mlp(8, 16, 4)
    state = Executor(program).scope.state()
    predictor = Predictor(program, state, threads=2, streams=2, rows=3)
    x, out = floats(10, 8), {"y": np.empty((10, 4), np.float32)}
    predictor.run({"x": x}, out)
    np.testing.assert_allclose(out["y"], Predictor(program, state)(x=x), rtol=1e-5, atol=1e-6)


def test_arrays_for_outputs_may_have_any_strides():
    predictor, _ = made(mlp(8, 16, 4))
    x = floats(5, 8)
    wide = np.zeros((4, 10), np.float32)
    predictor.run({"x": x}, {"y": wide.T[::2]})
    np.testing.assert_array_equal(wide.T[::2], predictor(x=x))
    assert not wide.T[1::2].any()


@pytest.mark.parametrize(
    ("out", "error"),
    [
        ({}, MissingError),
        ({"z": np.empty((5, 4), np.float32)}, MissingError),
        ({"y": np.empty((5, 4), np.float32), "z": np.empty(1)}, MissingError),
        ({"y": [0.0]}, MissingError),
        ({"y": np.empty((5, 4))}, DTypeError),
        ({"y": np.empty((5, 1), np.float32)}, ShapeError),
        ({"y": np.empty((6, 4), np.float32)}, ShapeError),
    ],
)
def test_arrays_that_do_not_fit_the_outputs_are_refused(out, error):
    predictor, _ = made(mlp(8, 16, 4))
    with pytest.raises(error):
        predictor.run({"x": floats(5, 8)}, out)
    assert np.isfinite(predictor(x=floats(5, 8))).all()


def test_many_threads_write_into_arrays_of_their_own():
    predictor, _ = made(mlp(16, 64, 4))
    feeds = [floats(3, 16, seed=i) for i in range(4)]
    wanted = [predictor(x=x) for x in feeds]
    wrong: list[int] = []

    def work(i: int) -> None:
        out = {"y": np.empty((3, 4), np.float32)}
        for _ in range(100):
            if not np.array_equal(predictor.run({"x": feeds[i]}, out)["y"], wanted[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not wrong and not any(w.is_alive() for w in workers)
