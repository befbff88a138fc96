"""What runs once: only what is read, and without the memory of what is not read again."""

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.ir.save import save
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from tests.runtime.programs import N, build, floats, value

WIDE = 1500  # a square weight of so many numbers is mapped


def two_products():
    """One value through two weights, whose products may become one of both."""

    def fn(b):
        x = b.input("x", (N, WIDE))
        first = o.linear(x, value(b, "v"))
        return {"y": o.linear(o.tanh(first), value(b, "w")), "z": o.mul(value(b, "scale"), x)}

    return build(fn, v=floats(WIDE, WIDE), w=floats(WIDE, WIDE, seed=1), scale=floats(WIDE))


@pytest.fixture
def saved(tmp_path):
    program = two_products()
    run = Executor(program)
    save(program, tmp_path / "model", run.scope.state())
    return tmp_path / "model", run


def resident(predictor, name):
    """Megabytes of a state that are in memory."""
    address = predictor.scope.arrays[name].ctypes.data
    with open("/proc/self/smaps") as file:
        inside = False
        for line in file:
            head = line.split()[0]
            if "-" in head and not head.endswith(":"):
                low, high = (int(part, 16) for part in head.split("-"))
                inside = low <= address < high
            elif inside and head == "Rss:":
                return int(line.split()[1]) / 1024
    return None


@pytest.mark.usefixtures("fast_kernels")
def test_a_weight_that_is_packed_takes_no_memory_of_its_own(saved):
    path, run = saved
    predictor, x = Predictor.load(path), floats(64, WIDE)
    np.testing.assert_allclose(predictor(x=x)["y"], run.run({"x": x})["y"], rtol=1e-4, atol=1e-4)
    assert resident(predictor, "v") < 1  # of 18 that both take


@pytest.mark.usefixtures("fast_kernels")
def test_other_sizes_that_read_the_weight_itself_still_can(saved):
    path, run = saved
    predictor = Predictor.load(path)
    for n in (64, 1, 2, 64, 300, 0, 1):
        x = floats(n, WIDE, seed=n)
        want = run.run({"x": x})["y"]
        np.testing.assert_allclose(predictor(x=x)["y"], want, rtol=1e-4, atol=1e-4)


def test_a_weight_written_later_counts_and_stays(saved):
    path, run = saved
    predictor, x = Predictor.load(path), floats(64, WIDE)
    predictor(x=x)
    for scope in (predictor.scope, run.scope):
        scope["v"] = floats(WIDE, WIDE, seed=5)
    for n in (64, 1, 40):
        want = run.run({"x": x[:n]})["y"]
        np.testing.assert_allclose(predictor(x=x[:n])["y"], want, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(predictor.scope["v"], floats(WIDE, WIDE, seed=5))


def test_validation_finds_all_inputs(saved):
    path, run = saved
    x = floats(64, WIDE)
    with flags.set(validate=True):
        got = Predictor.load(path)(x=x)["y"]
    np.testing.assert_allclose(got, run.run({"x": x})["y"], rtol=1e-4, atol=1e-4)


def joined():
    """The weight of a product is computed from two states."""

    def fn(b):
        x = b.input("x", (N, WIDE))
        return {"y": o.linear(x, o.concat(value(b, "v"), value(b, "w"), axis=0))}

    return build(fn, v=floats(300, WIDE), w=floats(300, WIDE, seed=1))


@pytest.mark.usefixtures("fast_kernels")
def test_what_only_packing_reads_is_forgotten_and_computed_again():
    program = joined()
    run = Executor(program)
    predictor = Predictor(program, run.scope.state())
    for n in (64, 1, 64, 2, 7):
        x = floats(n, WIDE, seed=n)
        want = x @ np.concatenate([floats(300, WIDE), floats(300, WIDE, seed=1)]).T
        np.testing.assert_allclose(predictor(x=x), want, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(run.run({"x": x})["y"], want, rtol=1e-4, atol=1e-3)
    prologue = Predictor(program, run.scope.state()).bound({"x": floats(64, WIDE)}).prologue
    lasting = [piece.lasting for rare in prologue.items for piece in rare.pieces]
    assert sorted(lasting) == [False, True]
    assert prologue.nbytes < 2 * 600 * WIDE * 4
