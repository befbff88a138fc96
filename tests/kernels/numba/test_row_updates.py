import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError
from noria.ir.emit import Builder
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope
from noria.testing.case import arr, ints
from noria.testing.kernel import check_kernel

NAME = "numba:update_rows"
LR = np.array(0.1, np.float32)
SIZE = 30
POSITIVE = ("v", "square", "moment")
VARIANTS = [
    ("sgd_update_rows", {}),
    ("momentum_update_rows", {}),
    ("momentum_update_rows", {"momentum": 0.5, "nesterov": True}),
    ("adagrad_update_rows", {}),
    ("adagrad_update_rows", {"epsilon": 0.1}),
    ("adam_update_rows", {}),
    ("adam_update_rows", {"beta1": 0.0, "beta2": 0.9, "epsilon": 1e-3, "weight_decay": 0.2}),
    ("rmsprop_update_rows", {}),
    ("rmsprop_update_rows", {"rho": 0.9, "momentum": 0.8}),
    ("rmsprop_update_rows", {"centered": True, "momentum": 0.8}),
]


def inputs_of(kind, ids, width, step=3):
    """Random inputs by the names of the op's schema."""
    given = {"ids": ids, "lr": LR, "step": np.array(step), "rows": arr(ids.shape[0], width)}
    given["mean"] = arr(SIZE, width, low=-0.1, high=0.1)
    given |= {n: arr(SIZE, width, low=1.0, high=2.0) for n in POSITIVE}
    return [given.get(n, arr(SIZE, width)) for n in lookup(kind).names]


def check(kind, attrs, ids, width, step=3, **options):
    inputs = inputs_of(kind, ids, width, step)
    check_kernel(kind, inputs, attrs, kernel=NAME, tol=2e-6, same_bits=True, **options)


@pytest.mark.parametrize(("kind", "attrs"), VARIANTS)
def test_rows_that_ids_name_are_updated_as_the_reference_does(kind, attrs):
    check(kind, attrs, ints(40, high=SIZE), 5, symbolic={1: {0: "N"}, 2: {0: "N"}})


@pytest.mark.parametrize("width", [1, 16, 64, 65])
def test_rows_have_any_length(width):
    check("adagrad_update_rows", {}, ints(80, high=SIZE, dtype="int32"), width)


@pytest.mark.parametrize("ids", [[7], [7] * 20, [29, 0, 29], list(range(SIZE))])
def test_any_spread_of_ids(ids):
    check("momentum_update_rows", {}, np.array(ids), 3)


def test_nan_stays_in_its_row():
    check("sgd_update_rows", {}, ints(9, high=SIZE), 3, special=True)


@pytest.mark.parametrize("step", [1, 2, 1000, 10**6])
def test_the_correction_of_adam_is_accurate_at_any_step(step):
    check("adam_update_rows", {}, ints(9, high=SIZE), 3, step)


@pytest.mark.parametrize("wrong", [-1, SIZE])
def test_an_id_outside_the_table_changes_nothing_and_is_told(wrong):
    program = Program()
    with Builder(program) as builder:
        ids = builder.input("ids", (symbol("N"),), "int64")
        rows = builder.input("rows", (symbol("N"), 2))
        table = builder.state("table", (SIZE, 2))
        builder.update("table", o.sgd_update_rows(table, ids, rows, np.float32(0.5)))
    first = np.arange(2 * SIZE, dtype=np.float32).reshape(SIZE, 2)
    scope = Scope().initialize(program, values={"table": first})
    executor = Executor(program, scope)
    rows = np.ones((3, 2), np.float32)
    with pytest.raises(
        ArgumentError, match=r"no row of the table\n.*sgd_update_rows at .*test_row_updates"
    ):
        executor.run({"ids": np.array([1, wrong, 2]), "rows": rows})
    np.testing.assert_array_equal(scope["table"], first)
    executor.run({"ids": np.array([1, 2, 1]), "rows": rows})
    np.testing.assert_array_equal(
        scope["table"][1:4] - first[1:4], [[-1, -1], [-0.5, -0.5], [0, 0]]
    )


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in VARIANTS}))
def test_a_bad_id_is_told_as_the_reference_does(kind):
    inputs = inputs_of(kind, np.array([1, SIZE]), 3)
    check_kernel(kind, inputs, kernel=NAME, raises=ArgumentError)


@pytest.mark.parametrize(
    ("at", "given", "reason"),
    [
        (1, ints(40, high=SIZE, dtype="int8"), "is int8"),
        (0, arr(SIZE, 5, dtype="bfloat16"), "is bfloat16"),
        (6, np.array(3, np.int32), "is int32"),
    ],
)
def test_what_is_left_to_the_reference(at, given, reason):
    inputs = inputs_of("adam_update_rows", ints(40, high=SIZE), 5)
    inputs[at] = given
    with pytest.raises(AssertionError, match=reason):
        check_kernel("adam_update_rows", inputs, kernel=NAME)


@pytest.mark.usefixtures("fast_kernels")
def test_tables_that_have_the_same_ids_group_them_once():
    program = Program()
    with Builder(program) as builder:
        ids = builder.input("ids", (symbol("N"), 4), "int64")
        wide = builder.input("wide", (symbol("N"), 4, 3))
        bags = builder.input("bags", (symbol("N"), 1))
        for name, width, rows in (("a", 3, wide), ("b", 1, bags)):
            table = builder.state(name, (SIZE, width))
            builder.update(name, o.sgd_update_rows(table, ids, rows, np.float32(0.5)))
    executor = Executor(program)
    rng = np.random.default_rng(0)
    feeds = {
        "ids": rng.integers(0, SIZE, (9, 4)),
        "wide": rng.standard_normal((9, 4, 3), np.float32),
        "bags": rng.standard_normal((9, 1), np.float32),
    }
    items = executor.bound(feeds).items
    assert [i.kernel.name for i in items if i.pack is None] == [NAME, NAME]
    assert len([i for i in items if i.pack is not None]) == 1
    executor.run(feeds)
    for name, width in (("a", 3), ("b", 1)):
        want = np.zeros((SIZE, width), np.float32)
        rows = feeds["wide"] if name == "a" else feeds["bags"][:, None].repeat(4, 1)
        np.add.at(want, feeds["ids"], -0.5 * rows)
        np.testing.assert_allclose(executor.scope[name], want, rtol=1e-5, atol=1e-6)
