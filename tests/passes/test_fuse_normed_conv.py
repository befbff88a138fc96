import numpy as np
import pytest

import noria
from noria import nn, ops, optim
from noria.core.flags import flags
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.passes.fuse_normed_conv import LEAST, MOST_OF_HALVES, fuse_normed_conv
from noria.passes.pipeline import optimize
from tests.passes.programs import apply, program, reasons, types

NORMED = ["batch_norm_factors", "normed_conv2d"]
BITS = "b: bool[N, 32, 4, 4] = unpack_bits(mask, size=32, axis=1)\noutput b = b"


def forward(ins=32, outs=32, taps=3, dtype="float32", how=", padding=1", residual="", tail=""):
    """A batch norm and what reads it."""
    c = f"float32[{ins}]"
    x = f"{dtype}[N, {ins}, 4, 4]"
    mask = f"uint8[N, {ins // 8}, 4, 4]"
    state = "\n".join(f"input {v}: {c}" for v in ("scale", "bias", "mean", "var"))
    out = f"{dtype}[N, {outs}, {'2, 2' if 'stride' in how else '4, 4'}]"
    return program(
        f"input x: {x}\ninput r: {x}\ninput w: {dtype}[{outs}, {ins}, {taps}, {taps}]\n{state}\n"
        f"y, m, s, m2, v2, mask: {x}, {c}, {c}, {c}, {c}, {mask}"
        f" = batch_norm_relu(x, scale, bias, mean, var{residual}, mask=true)\n"
        f"out: {out} = conv2d(y, w{how})\n{tail}\noutput out = out"
    )


def test_a_convolution_takes_the_second_pass():
    after, report = apply(fuse_normed_conv, forward())
    assert types(after) == NORMED and len(report.fired) == 1
    first, second = after.operators
    assert [v.name for v in second.operands] == ["x", "w", "m", "y.factors"]
    assert first.outputs[0].shape == (2, 32)


def test_two_of_one_kind_normalise_once_and_not_each():
    tail = "other: float32[N, 32, 4, 4] = conv2d(y, w, padding=1)\noutput other = other"
    after, report = apply(fuse_normed_conv, forward(tail=tail))
    assert types(after)[0] == "batch_norm_relu" and reasons(report) == [
        "several convolutions read it"
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"taps": 1, "how": ", padding=0"}, "not 3x3"),
        ({"how": ", padding=1, stride=2"}, "strided"),
        ({"ins": LEAST - 16}, "multiples"),
        ({"outs": LEAST + 8}, "multiples"),
        ({"dtype": "bfloat16", "ins": MOST_OF_HALVES + 16}, "multiplied directly"),
        ({"residual": ", r"}, "a residual"),
        ({"tail": "output y = y"}, "it is an output"),
        ({"tail": "output mask = mask"}, "its mask is an output"),
        ({"tail": BITS}, "its mask is used elsewhere"),
    ],
)
def test_what_stays_is_told(changes, reason):
    after, report = apply(fuse_normed_conv, forward(**changes))
    assert types(after)[:2] == ["batch_norm_relu", "conv2d"]
    assert reason in reasons(report)[0]


def test_other_readers_are_no_reason_to_tell():
    tail = "exp: float32[N, 32, 4, 4] = exp(y)\noutput exp = exp"
    after, report = apply(fuse_normed_conv, forward(tail=tail))
    assert types(after)[0] == "batch_norm_relu" and not report.declined


def test_without_winograd_all_stays():
    with flags.set(winograd=False):
        after, report = apply(fuse_normed_conv, forward())
    assert types(after) == ["batch_norm_relu", "conv2d"] and not report.fired


class Net(nn.Module):
    def __init__(self, channels=LEAST):
        self.first = nn.Conv2d(3, channels, 3, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Linear(channels, 4)

    def __call__(self, x):
        x = self.second(ops.relu(self.norm(self.first(x))))
        return self.head(ops.reduce_mean(x, axis=(2, 3)))


def training():
    net = Net()

    def step(x):
        return {"loss": ops.reduce_mean(ops.square(net(x)))}

    return optim.SGD(0.05).minimize(noria.trace(step, x=noria.spec("N", 3, 11, 9)))


def losses(program, steps=4, **how):
    x = np.random.default_rng(0).standard_normal((3, 3, 11, 9)).astype(np.float32)
    executor = noria.Executor(program, seed=0, **how)
    return [executor.run({"x": x}, ["loss"])["loss"] for _ in range(steps)]


@pytest.mark.parametrize(("precision", "tol"), [("float32", 1e-4), ("bf16", 5e-2)])
def test_a_network_learns_the_same_and_reads_no_mask(precision, tol):
    program = training()
    kinds = types(optimize(program, precision))
    assert {*NORMED, "normed_conv2d_weight_grad"} <= {*kinds}
    assert "batch_norm_relu" not in kinds and kinds.count("conv2d_weight_grad") == 1
    got = losses(program, precision=precision)
    want = losses(program, optimized=True)  # no pass runs
    np.testing.assert_allclose(got, want, rtol=tol)
    assert got[-1] < got[0]
