"""Optimiser steps that the reference vectors do not judge, beside their formulas."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError

RNG = np.random.default_rng(0)
P, G = (RNG.normal(size=(3, 2)).astype(np.float32) for _ in range(2))
S = np.square(RNG.normal(size=(3, 2))).astype(np.float32) + 0.5
LR = np.array([0.1], np.float32)
COMMON = {"Param": P, "Grad": G, "LearningRate": LR}


def close(got, **wanted):
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("power", [-0.5, -0.8])
def test_ftrl(run_op, power):
    inputs = {**COMMON, "SquaredAccumulator": S, "LinearAccumulator": P * 0.5}
    attrs = {"l1": 0.1, "l2": 0.2, "lr_power": power}
    slots = ("ParamOut", "SquaredAccumOut", "LinearAccumOut")
    got = run_op("ftrl", inputs, attrs, outputs=slots)
    new = S + G * G
    linear = P * 0.5 + G - (new**-power - S**-power) / 0.1 * P
    x, y = 0.1 * np.sign(linear) - linear, new**-power / 0.1 + 0.4
    param = np.where(np.abs(linear) > 0.1, x / y, 0)
    close(got, ParamOut=param, SquaredAccumOut=new, LinearAccumOut=linear)


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop(run_op, centered):
    inputs = {**COMMON, "MeanSquare": S, "MeanGrad": P * 0.1, "Moment": P}
    attrs = {"decay": 0.9, "epsilon": 0.01, "momentum": 0.5, "centered": centered}
    slots = ("ParamOut", "MomentOut", "MeanSquareOut", "MeanGradOut")
    got = run_op("rmsprop", inputs, attrs, outputs=slots)
    square = 0.9 * S + 0.1 * G * G
    mean = 0.09 * P + 0.1 * G if centered else P * 0.1
    spread = square - mean**2 if centered else square
    moment = 0.5 * P + 0.1 * G / np.sqrt(spread + 0.01)
    close(got, ParamOut=P - moment, MomentOut=moment, MeanSquareOut=square, MeanGradOut=mean)


def test_lamb(run_op):
    powers = {"Beta1Pow": np.array([0.81], np.float32), "Beta2Pow": np.array([0.998], np.float32)}
    inputs = {**COMMON, "Moment1": P * 0.1, "Moment2": S, **powers}
    attrs = {"weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6}
    got = run_op("lamb", inputs, attrs, outputs=("ParamOut", "Moment1Out", "Moment2Out"))
    m, v = 0.09 * P + 0.1 * G, 0.999 * S + 0.001 * G * G
    step = m / 0.19 / (np.sqrt(v / np.float32(1 - np.float32(0.998))) + 1e-6) + 0.01 * P
    param = P - 0.1 * np.linalg.norm(P) / np.linalg.norm(step) * step
    close(got, ParamOut=param, Moment1Out=m, Moment2Out=v)


def test_proximal_descent(run_op):
    got = run_op("proximal_gd", COMMON, {"l1": 0.5, "l2": 0.2}, outputs=("ParamOut",))
    moved = P - 0.1 * G
    close(got, ParamOut=np.sign(moved) * np.maximum(np.abs(moved) - 0.05, 0) / 1.02)


@pytest.mark.parametrize("step", [3.0, 7.0])
def test_compressed_momentum_begins_with_plain_momentum(run_op, step):
    inputs = {**COMMON, "Velocity": P * 0.5, "current_step": np.array([step], np.float32)}
    inputs["nranks"] = np.array([2.0], np.float32)
    attrs = {"mu": 0.9, "rampup_begin_step": 5.0}
    slots = ("ParamOut", "VelocityOut", "Grad_out")
    got = run_op("dgc_momentum", inputs, attrs, outputs=slots)
    velocity = 0.45 * P + G if step < 5 else P * 0.5
    moved = velocity if step < 5 else G
    close(got, ParamOut=P - 0.1 * moved, VelocityOut=velocity, Grad_out=G / 2)


def test_gradients_are_clipped_once_compression_begins(run_op):
    inputs = {"X": G * 100, "current_step": np.array([1.0], np.float32)}
    attrs = {"max_norm": 1.0, "rampup_begin_step": 2.0}
    close(run_op("dgc_clip_by_norm", inputs, attrs), Out=G * 100)
    inputs["current_step"] = np.array([2.0], np.float32)
    got = run_op("dgc_clip_by_norm", inputs, attrs)
    assert abs(np.linalg.norm(got["Out"]) - 1) < 1e-5
    with pytest.raises(ArgumentError, match="max_norm"):
        run_op("clip_by_norm", {"X": G}, {"max_norm": 0.0})


def test_a_full_window_of_sums_is_put_away(run_op):
    zeros, counts = np.zeros_like(P), [np.array([n], np.int64) for n in (1, 0, 1)]
    inputs = {"param": P, "in_sum_1": P, "in_sum_2": zeros, "in_sum_3": zeros}
    names = ("num_accumulates", "old_num_accumulates", "num_updates")
    inputs |= {f"in_{n}": c for n, c in zip(names, counts, strict=True)}
    attrs = {"average_window": 1.0, "max_average_window": 2, "min_average_window": 1}
    slots = (*(f"out_sum_{i}" for i in (1, 2, 3)), *(f"out_{n}" for n in names))
    got = run_op("average_accumulates", inputs, attrs, outputs=slots)
    close(got, out_sum_1=zeros, out_sum_2=zeros, out_sum_3=2 * P)
    assert [int(got[f"out_{n}"][0]) for n in names] == [0, 2, 2]


def test_a_rate_as_it_is_where_lars_has_no_decay(run_op):
    inputs = {**COMMON, "Velocity": P * 0.5}
    attrs = {"mu": 0.9, "lars_weight_decay": 0.0, "lars_coeff": 0.001}
    got = run_op("lars_momentum", inputs, attrs, outputs=("ParamOut", "VelocityOut"))
    velocity = 0.45 * P + 0.1 * G
    close(got, VelocityOut=velocity, ParamOut=P - velocity)
