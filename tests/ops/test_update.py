import math

import numpy as np
import pytest

import noria.ops.update as update
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef, lookup
from noria.ir.program import Program
from noria.ir.sparse import SparseGrad
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

LR = np.float32(0.1)
STATES = {"sgd": 0, "momentum": 1, "adagrad": 1, "adam": 2, "rmsprop": 3}


# ---- the formulas, for one number --------------------------------------------------------------


def sgd(p, g, lr):
    return (p - lr * g,)


def momentum(p, g, v, lr, momentum=0.9, nesterov=False):
    v = momentum * v + g
    return p - lr * (g + momentum * v if nesterov else v), v


def adagrad(p, g, s, lr, epsilon=1e-10):
    s = s + g * g
    return p - lr * g / (math.sqrt(s) + epsilon), s


def adam(p, g, m, v, lr, step, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0):
    p = p - lr * weight_decay * p
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    return p - lr * m_hat / (math.sqrt(v_hat) + epsilon), m, v


def rmsprop(p, g, s, a, v, lr, rho=0.99, epsilon=1e-8, momentum=0.0, centered=False):
    s = rho * s + (1 - rho) * g * g
    a = rho * a + (1 - rho) * g if centered else a
    d = g / (math.sqrt(s - a * a if centered else s) + epsilon)
    v = momentum * v + d if momentum else v
    return p - lr * (v if momentum else d), s, a, v


FORMULAS = {f.__name__: f for f in (sgd, momentum, adagrad, adam, rmsprop)}


def each(name, how):
    """The formula, applied to one element after the other."""

    def apply(param, grad, *rest):
        arrays = [param, grad, *rest[: STATES[name]]]
        numbers = [float(v) for v in rest[STATES[name] :]]
        out = [np.zeros(param.shape) for _ in range(STATES[name] + 1)]
        for i in np.ndindex(param.shape):
            values = FORMULAS[name](*(float(a[i]) for a in arrays), *numbers, **how)
            for o, v in zip(out, values, strict=True):
                o[i] = v
        return tuple(out)

    return apply


def each_row(name, how):
    """The formula for the rows named, after those of one id were added."""

    def apply(param, ids, rows, *rest):
        per = ids.size // max(len(rows), 1)
        ids, rows = ids.ravel(), rows.repeat(max(per, 1), axis=0)
        arrays = [np.array(a, np.float64) for a in (param, *rest[: STATES[name]])]
        for i in sorted(set(ids.tolist())):
            total = rows[ids == i].astype(np.float64).sum(0)
            row = [a[i : i + 1] for a in arrays]
            new = each(name, how)(row[0], total[None], *row[1:], *rest[STATES[name] :])
            for a, n in zip(arrays, new, strict=True):
                a[i] = n[0]
        return tuple(arrays)

    return apply


def states(name, shape, dtype):
    """State that could have arisen: squares are not negative, and above the square of the mean."""
    return [
        arr(
            *shape,
            low=1 if name == "rmsprop" and i == 0 else 0,
            high=2 if i == 0 else 1,
            dtype=dtype,
        )
        for i in range(STATES[name])
    ]


def _state(dtype):
    return "float64" if dtype == "float64" else "float32"


def scalars(name, step=3, dtype="float32"):
    lr = np.float64(0.1) if dtype == "float64" else LR
    return [lr, np.int64(step)] if name == "adam" else [lr]


def dense(name, shape=(3, 4), dtype="float32", symbolic=True, step=3, id="", **how):
    inputs = [
        arr(*shape, dtype=dtype),
        arr(*shape, dtype=dtype),
        *states(name, shape, _state(dtype)),
    ]
    open_ = {i: {0: "N"} for i in range(len(inputs))} if symbolic and shape else None
    return Case(
        f"{name}_update",
        [*inputs, *scalars(name, step, dtype)],
        how,
        expect=each(name, how),
        symbolic=open_,
        id=id,
    )


IDS = np.array([4, 0, 4, 2, 4, 0])


def sparse(name, shape=(5, 3), ids=IDS, dtype="float32", **how):
    rows = arr(len(ids), *shape[1:], dtype=dtype)  # one row for all ids of ids[i]
    inputs = [
        arr(*shape, dtype=dtype),
        ids,
        rows,
        *states(name, shape, _state(dtype)),
        *scalars(name),
    ]
    return Case(f"{name}_update_rows", inputs, how, expect=each_row(name, how))


CASES = [
    *(dense(name) for name in STATES),
    *(dense(name, shape=()) for name in STATES),
    *(dense(name, shape=(0, 2)) for name in STATES),
    *(dense(name, dtype="bfloat16", symbolic=False) for name in STATES),
    *(dense(name, dtype="float64", symbolic=False) for name in STATES),
    *(sparse(name) for name in STATES),
    *(sparse(name, ids=np.zeros(0, int)) for name in STATES),
    *(sparse(name, ids=IDS.reshape(2, 3)) for name in STATES),
    *(sparse(name, shape=(5,), ids=IDS.astype(np.int32)) for name in STATES),
    *(sparse(name, shape=(5, 2, 2), dtype="bfloat16") for name in STATES),
    dense("momentum", momentum=0.5, nesterov=True),
    sparse("momentum", momentum=0.5, nesterov=True),
    dense("adagrad", epsilon=0.1),
    dense("adam", step=1, id="first step"),
    dense("adam", step=100_000, id="late"),
    dense("adam", beta1=0.5, beta2=0.9, epsilon=1e-3, weight_decay=0.2),
    dense("adam", beta1=0.0),
    sparse("adam", beta1=0.5, beta2=0.9, epsilon=1e-3, weight_decay=0.2),
    dense("rmsprop", momentum=0.7),
    dense("rmsprop", centered=True, rho=0.9, epsilon=0.01),
    dense("rmsprop", centered=True, momentum=0.7),
    sparse("rmsprop", centered=True, momentum=0.7),
    Case(
        "sgd_update_rows",
        [arr(5, 3), ints(4, high=5), arr(4, 3), LR],
        expect=each_row("sgd", {}),
        symbolic={1: {0: "K"}, 2: {0: "K"}},
    ),
    Case(
        "merge_rows",
        [ints(6, high=4), arr(6, 2)],
        {"shape": (4, 2)},
        symbolic={i: {0: "K"} for i in (0, 1)},
    ),
    Case(
        "merge_rows",
        [IDS, arr(6, 2)],
        {"shape": (5, 2)},
        expect=lambda i, r: (
            np.array([0, 2, 4, 5, 5, 5]),
            np.stack([r[1] + r[5], r[3], r[0] + r[2] + r[4], *[0 * r[0]] * 3]),
        ),
    ),
    Case("merge_rows", [np.zeros(0, int), arr(0, 2)], {"shape": (5, 2)}),
    Case("merge_rows", [IDS, arr(6, dtype="bfloat16")], {"shape": (7,)}),
    Case(
        "merge_rows",
        [IDS.reshape(2, 3), arr(2, 2)],
        {"shape": (5, 2)},
        expect=lambda i, r: (
            np.array([0, 2, 4, 5, 5, 5]),
            np.stack([r[0] + r[1], r[1], 2 * r[0] + r[1], *[0 * r[0]] * 3]),
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(update).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


def test_outputs_may_overwrite_the_inputs_they_replace():
    for name, count in STATES.items():
        for kind, gap in (("update", 2), ("update_rows", 3)):
            definition = lookup(f"{name}_{kind}")
            places = [(0, 0), *((i + 1, gap + i) for i in range(count))]
            assert definition.overwrites == tuple(places)


def torch_optimizer(torch, name, parameters):
    return {
        "sgd": lambda: torch.optim.SGD(parameters, lr=0.1),
        "momentum": lambda: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
        "adagrad": lambda: torch.optim.Adagrad(parameters, lr=0.1),
        "adam": lambda: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.2),
        "rmsprop": lambda: torch.optim.RMSprop(parameters, lr=0.1, momentum=0.5, centered=True),
    }[name]()


@pytest.mark.parametrize("name", STATES)
def test_ten_steps_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    how = {
        "momentum": {"nesterov": True},
        "adam": {"weight_decay": 0.2},
        "rmsprop": {"momentum": 0.5, "centered": True},
    }.get(name, {})
    rng = np.random.default_rng(0)
    param = rng.normal(size=5)
    theirs = torch.tensor(param.copy(), requires_grad=True)
    optimizer = torch_optimizer(torch, name, [theirs])
    state = [np.zeros(5) for _ in range(STATES[name])]
    for step in range(1, 11):
        grad = rng.normal(size=5)
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        count = [np.int64(step)] if name == "adam" else []
        got = lookup(f"{name}_update")(param, grad, *state, np.float64(0.1), *count, **how)
        param, *state = got if isinstance(got, tuple) else (got,)
    assert np.allclose(param, theirs.detach().numpy(), rtol=1e-12)


# ---- clipping ----------------------------------------------------------------------------------


def clipped(norm):
    """Two gradients, one of them sparse with an id twice: their norm is 13."""
    program = Program()
    with Builder(program) as builder:
        g = builder.input("g", (2,))
        ids, rows = builder.input("ids", (3,), "int64"), builder.input("rows", (3, 1))
        grads = [g, SparseGrad(ids, rows, (4, 1))]
        a, b = update.clip_by_global_norm(grads, norm)
        program.outputs = {"norm": update.global_norm(grads), "a": a, "b": b.dense()}
    feeds = {"g": [3, 4], "ids": [1, 2, 1], "rows": [[5], [0], [7]]}
    types = {"ids": np.int64}
    arrays = {k: np.array(v, types.get(k, np.float32)) for k, v in feeds.items()}
    return run_program(program, arrays, {})[0]


def test_rows_of_one_id_count_as_their_sum():
    out = clipped(1.0)
    assert out["norm"] == 13
    assert np.allclose(out["a"], np.array([3, 4]) / 13)
    assert np.allclose(out["b"].ravel(), [0, 12 / 13, 0, 0])


def test_gradients_within_the_norm_stay_what_they_are():
    out = clipped(20.0)
    assert out["a"].tolist() == [3, 4] and out["b"].ravel().tolist() == [0, 12, 0, 0]


def test_clipping_keeps_dtypes():
    g = np.full(10, 3, np.float16)
    (out,) = update.clip_by_global_norm([g], 1.0)
    assert out.dtype == np.float16 and abs(np.linalg.norm(out.astype(np.float32)) - 1) < 1e-3


def test_clipping_nothing_or_to_nothing_is_refused():
    with pytest.raises(ArgumentError):
        update.global_norm([])
    with pytest.raises(ArgumentError, match="positive"):
        update.clip_by_global_norm([np.ones(2)], 0.0)


# ---- errors ------------------------------------------------------------------------------------


def test_shapes_that_differ_are_named():
    p, lr = np.ones((2, 3), np.float32), LR
    with pytest.raises(ShapeError, match="grad"):
        update.sgd_update(p, np.ones(3), lr)
    with pytest.raises(ShapeError, match="velocity"):
        update.momentum_update(p, p, np.ones((2, 2)), lr)
    with pytest.raises(ShapeError, match="lr must be a scalar"):
        update.sgd_update(p, p, np.ones(2))
    with pytest.raises(ShapeError, match="step must be a scalar"):
        update.adam_update(p, p, p, p, lr, np.array([1]))
    with pytest.raises(ShapeError, match="rows"):
        update.sgd_update_rows(p, np.array([0]), np.ones((2, 3)), lr)
    with pytest.raises(ShapeError, match="rows belong to ids"):
        update.sgd_update_rows(p, np.array([0]), np.ones((1, 1, 3)), lr)
    with pytest.raises(ShapeError, match="rows"):
        update.sgd_update_rows(p, np.array([[0, 1]]), np.ones((2, 3)), lr)
    with pytest.raises(ShapeError, match="no rows"):
        update.sgd_update_rows(np.float32(1), np.array([0]), np.ones(1), lr)
    with pytest.raises(ShapeError, match="rows"):
        update.merge_rows(np.array([0]), np.ones((2, 3)), shape=(3, 3))
    with pytest.raises(ShapeError, match="no rows"):
        update.merge_rows(np.array([0]), np.ones(1), shape=())


def test_dtypes_and_numbers_out_of_range_are_refused():
    p = np.ones(2, np.float32)
    with pytest.raises(DTypeError):
        update.adam_update(p, p, p, p, LR, 1.5)
    with pytest.raises(DTypeError):
        update.sgd_update(np.ones(2, int), p, LR)
    with pytest.raises(ArgumentError, match="beta2"):
        update.adam_update(p, p, p, p, LR, 1, beta2=1.0)
    with pytest.raises(ArgumentError, match="rho"):
        update.rmsprop_update(p, p, p, p, p, LR, rho=-0.1)


def test_ids_that_are_no_rows_are_told():
    with pytest.raises(ArgumentError, match="no row"):
        update.sgd_update_rows(np.ones((2, 1)), np.array([2]), np.ones((1, 1)), LR)
