"""Slices of a batch side by side: the same numbers, whichever way is chosen."""

import multiprocessing
import threading
import weakref

import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError, ShapeError
from noria.core.machine import cpu_count
from noria.ir.opdef import vocabulary as o
from noria.ir.save import save
from noria.runtime.predictor import Predictor
from noria.runtime.streams import TRIES, Cut, Streams, candidates, checked_cut
from tests.runtime.programs import N, build, floats, mlp, value


def states(program):
    return {n: s.init[1]["value"] for n, s in program.state.items()}


PROGRAM = mlp(6, 16, 3)


@pytest.mark.parametrize("how", [(2, None), (2, 1), (3, 2), (3, 5), ("auto", None)])
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 16])
def test_slices_give_what_the_whole_batch_gives(how, rows):
    streams, size = how
    whole = Predictor(PROGRAM, states(PROGRAM), threads=3)
    cut = Predictor(PROGRAM, states(PROGRAM), threads=3, streams=streams, rows=size)
    for seed in range(3):
        x = floats(rows, 6, seed=seed)
        got = cut(x=x)
        np.testing.assert_allclose(got, whole(x=x), rtol=1e-6, atol=1e-6)
        assert got.flags.owndata and got.dtype == np.float32


def test_several_outputs_and_inputs():
    def fn(b):
        x, y = b.input("x", (N, 3)), b.input("y", (N, 2, 3))
        return {"sum": o.add(o.unsqueeze(x, axis=1), y), "big": o.greater(x, 0.0)}

    program = build(fn)
    x, y = floats(5, 3), floats(5, 2, 3, seed=1)
    got = Predictor(program, {}, threads=2, streams=2, rows=1)(x=x, y=y)
    np.testing.assert_array_equal(got["sum"], x[:, None] + y)
    np.testing.assert_array_equal(got["big"], x > 0)


def test_two_threads_may_call_and_choose_at_once():
    predictor = Predictor(PROGRAM, states(PROGRAM), threads=2, streams="auto")
    want = [Predictor(PROGRAM, states(PROGRAM))(x=floats(9, 6, seed=i)) for i in range(4)]
    wrong: list[int] = []

    def work(i):
        for _ in range(20):
            if not np.allclose(predictor(x=floats(9, 6, seed=i)), want[i], atol=1e-6):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not wrong and not any(w.is_alive() for w in workers)


def test_new_numbers_of_a_parameter_count_in_every_stream():
    program = mlp(4, 2)
    predictor = Predictor(program, states(program), threads=2, streams=2, rows=1)
    x = floats(4, 4)
    predictor(x=x)
    predictor.scope["w0"] = np.zeros((2, 4), np.float32)
    np.testing.assert_allclose(predictor(x=x), np.tile(states(program)["b0"], (4, 1)))


def test_a_batch_that_cannot_be_cut_is_refused():
    program = build(lambda b: {"y": o.softmax(b.input("x", (N, 3)), axis=0)})
    with pytest.raises(ArgumentError, match="rows may be mixed in softmax"):
        Predictor(program, {}, threads=2, streams=2)
    assert Predictor(program, {}, threads=2, streams=1)(x=floats(2, 3)).shape == (2, 3)


@pytest.mark.parametrize(
    ("streams", "rows", "words"),
    [
        (0, None, "1 to 2"),
        (3, None, "1 to 2"),
        ("all", None, "'auto'"),
        (True, None, "1 to 2"),
        ("auto", 2, "rows=2"),
        (2, 0, "1 or more"),
        (2, 1.5, "1 or more"),
    ],
)
def test_bad_numbers_are_told(streams, rows, words):
    with pytest.raises(ArgumentError, match=words):
        checked_cut(streams, 2, rows)


def test_wrong_shapes_are_told_before_anything_is_cut():
    predictor = Predictor(PROGRAM, states(PROGRAM), threads=2, streams=2)
    with pytest.raises(ShapeError, match="feed 'x: axis 1"):
        predictor(x=floats(4, 5))


def test_the_slices_of_a_batch():
    assert Cut(2).slices(5) == [slice(0, 3), slice(3, 5)]
    assert Cut(2, 2).slices(5) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert Cut(3).slices(0) == []
    assert candidates(8, 2) == [Cut(1), Cut(2, 1), Cut(2, 2), Cut(2, 4)]
    assert candidates(1, 2) == [Cut(1)] and candidates(8, 1) == [Cut(1)]


def test_the_fastest_way_is_chosen_once_for_each_size():
    """Slices of 2 take no time; the rest sleeps."""
    sizes, forgotten = [], []

    def call(arrays, threads, into):
        sizes.append((len(arrays[0]), threads))
        if len(arrays[0]) != 2:
            threading.Event().wait(0.02)
        if into is not None:
            into["y"][...] = arrays[0]
        return {"y": arrays[0]} if into is None else dict(into)

    def empty(arrays):
        return {"y": np.empty_like(arrays[0])}

    streams = Streams(call, empty, 2, None, lambda: forgotten.append(True))
    x = floats(8, 3)
    for _ in range(2):
        np.testing.assert_array_equal(streams.run([x])["y"], x)
    assert streams.chosen == {(x.shape,): Cut(2, 2)} and forgotten == [True]
    sizes.clear()
    streams.run([x])
    assert sizes == [(2, 1)] * 4


def test_ways_take_turns_so_that_a_slow_second_falls_on_all_of_them():
    ran = []

    def call(arrays, threads, into):
        ran.append(len(arrays[0]))
        return {"y": arrays[0]}

    streams = Streams(call, lambda arrays: {}, 2, None, lambda: None)
    streams.run([floats(4, 1)])
    ways = [4, 1, 1, 1, 1, 2, 2]
    assert [sorted(ran[i * 7 : i * 7 + 7]) for i in range(TRIES)] == [sorted(ways)] * TRIES


def test_packed_weights_of_ways_that_were_only_tried_are_given_back():
    predictor = Predictor(PROGRAM, states(PROGRAM), threads=2, streams="auto")
    tried = weakref.ref(predictor._kept)
    x = floats(8, 6)
    np.testing.assert_array_equal(predictor(x=x), predictor(x=x))
    assert tried() is None


def test_parameters_written_after_the_choice_count_in_calls_that_ran_meanwhile():
    predictor = Predictor(PROGRAM, states(PROGRAM), threads=2, streams="auto")
    x = floats(8, 6)
    first = predictor(x=x)
    space = predictor._idle[-1]
    predictor._forget()
    predictor._idle.append(space)  # as a call does that ends now
    name = next(iter(predictor.scope))
    predictor.scope[name] = 2 * predictor.scope[name]
    plain = Predictor(PROGRAM, predictor.scope.state(), threads=2)
    np.testing.assert_allclose(predictor(x=x), plain(x=x), rtol=1e-5, atol=1e-6)
    assert not np.allclose(first, plain(x=x))


def _forked(predictor, queue):
    try:
        predictor(x=floats(4, 6))
        queue.put("ran")
    except EngineError as error:
        queue.put(str(error))


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning", "ignore:os.fork:RuntimeWarning"
)
@pytest.mark.parametrize("how", [{"streams": 2, "rows": 1}, {"streams": "auto"}, {}])
def test_a_fork_after_use_is_an_error_and_does_not_hang(how):
    predictor = Predictor(PROGRAM, states(PROGRAM), threads=2, **how)
    predictor(x=floats(4, 6))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_forked, args=(predictor, queue))
    child.start()
    told = queue.get(timeout=30)
    child.join(30)
    assert "forked" in told and "spawn" in told


def images(channels):
    """A network of several kinds of convolution, on an odd number of channels."""
    kernels, outs = ((3, 2), (1, 1), (3, 1)), 2 * channels + 17
    weights = {
        f"w{i}": floats(outs, outs if i else channels, kernel, kernel, seed=i) / 9
        for i, (kernel, _) in enumerate(kernels)
    }

    def fn(b):
        x = b.input("x", (N, channels, 9, 7))
        for i, (kernel, stride) in enumerate(kernels):
            x = o.conv2d(x, value(b, f"w{i}"), stride=stride, padding=kernel // 2)
            x = o.relu(x)
        return {"y": o.reduce_mean(x, axis=(2, 3))}

    return build(fn, **weights)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_odd_channels_single_rows_and_more_threads_than_cores(channels, precision):
    """Two predictors, each called by a Python thread of its own."""
    program = images(channels)
    how = {"precision": precision}
    plain = Predictor(program, states(program), threads=1, **how)
    both = [
        Predictor(program, states(program), threads=2 * cpu_count() + 1, **how),
        Predictor(program, states(program), threads=2, streams=2, rows=1, **how),
    ]
    feeds = [floats(n, channels, 9, 7, seed=n) for n in (1, 2, 5)]
    wanted = [plain(x=x) for x in feeds]
    wrong: list[str] = []

    def work(predictor: Predictor) -> None:
        for _ in range(5):
            for x, want in zip(feeds, wanted, strict=True):
                got = predictor(x=x)
                if not np.allclose(got, want, rtol=2e-2, atol=2e-2):
                    wrong.append(f"{len(x)} rows: {np.abs(got - want).max()}")

    workers = [threading.Thread(target=work, args=(p,), daemon=True) for p in both]
    for w in workers:
        w.start()
    for w in workers:
        w.join(120)
    assert not wrong and not any(w.is_alive() for w in workers)


def test_what_fails_in_a_stream_fails_in_the_call():
    def call(arrays, threads, into):
        raise ValueError("no")

    streams = Streams(call, lambda arrays: {}, 2, Cut(2, 1), lambda: None)
    with pytest.raises(ValueError, match="no"):
        streams.run([floats(4, 1)])


def test_a_saved_model_runs_in_streams(tmp_path):
    save(PROGRAM, tmp_path / "m.noria", states(PROGRAM))
    predictor = Predictor.load(tmp_path / "m.noria", threads=2, streams=2, rows=3)
    assert predictor(x=floats(7, 6)).shape == (7, 3)
