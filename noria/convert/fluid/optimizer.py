"""Optimiser steps of Fluid. What they change is what they are given: `ParamOut` is the variable
`Param`, so a Program that is read keeps its state up to date."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Op, fluid_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops import update_formulas as formulas
from noria.ops.numeric import cast_like, spec_of
from noria.ops.random import normal

Result = dict[str, Any]


def _rate(op: Op) -> Any:
    return _scalar(op.input("LearningRate"))


def _scalar(x: Any) -> Any:
    return o.reshape(x, shape=())


def _named(names: str, values: Any) -> Result:
    return dict(zip(names.split(), values, strict=True))


def _pair(op: Op) -> tuple[Any, Any]:
    return op.input("Param"), op.input("Grad")


@fluid_op("sgd")
def sgd(op: Op) -> Result:
    return {"ParamOut": o.sgd_update(*_pair(op), _rate(op))}


@fluid_op("momentum")
def momentum(op: Op) -> Result:
    how = {"momentum": op.need_attr("mu"), "nesterov": op.attr("use_nesterov", False)}
    got = o.momentum_update(*_pair(op), op.input("Velocity"), _rate(op), **how)
    return _named("ParamOut VelocityOut", got)


@fluid_op("lars_momentum")
def lars_momentum(op: Op) -> Result:
    decay = op.attr("lars_weight_decay", 0.0005)
    how = {"coefficient": op.attr("lars_coeff", 0.001), "weight_decay": decay}
    if decay <= 0:  # Fluid then takes the rate as it is
        got = o.momentum_update(
            *_pair(op), o.div(op.input("Velocity"), _rate(op)), _rate(op), momentum=op.attr("mu")
        )
        return {"ParamOut": got[0], "VelocityOut": o.mul(got[1], _rate(op))}
    got = formulas.lars(
        *_pair(op), op.input("Velocity"), lr=_rate(op), momentum=op.need_attr("mu"), **how
    )
    return _named("ParamOut VelocityOut", got)


@fluid_op("adagrad")
def adagrad(op: Op) -> Result:
    how = {"epsilon": op.attr("epsilon", 1e-6)}
    got = o.adagrad_update(*_pair(op), op.input("Moment"), _rate(op), **how)
    return _named("ParamOut MomentOut", got)


@fluid_op("decayed_adagrad")
def decayed_adagrad(op: Op) -> Result:
    how = {"decay": op.attr("decay", 0.95), "epsilon": op.attr("epsilon", 1e-6)}
    got = formulas.decayed_adagrad(*_pair(op), op.input("Moment"), lr=_rate(op), **how)
    return _named("ParamOut MomentOut", got)


@fluid_op("proximal_gd")
def proximal_sgd(op: Op) -> Result:
    how = {"l1": op.attr("l1", 0.0), "l2": op.attr("l2", 0.0)}
    return {"ParamOut": formulas.proximal_sgd(*_pair(op), lr=_rate(op), **how)}


@fluid_op("proximal_adagrad")
def proximal_adagrad(op: Op) -> Result:
    how = {"l1": op.attr("l1", 0.0), "l2": op.attr("l2", 0.0)}
    got = formulas.proximal_adagrad(*_pair(op), op.input("Moment"), lr=_rate(op), **how)
    return _named("ParamOut MomentOut", got)


@fluid_op("ftrl")
def ftrl(op: Op) -> Result:
    how = {"l1": op.attr("l1", 0.0), "l2": op.attr("l2", 0.0)}
    how |= {"power": op.attr("lr_power", -0.5), "lr": _rate(op)}
    kept = op.input("SquaredAccumulator"), op.input("LinearAccumulator")
    got = formulas.ftrl(*_pair(op), *kept, **how)
    return _named("ParamOut SquaredAccumOut LinearAccumOut", got)


@fluid_op("adadelta")
def adadelta(op: Op) -> Result:
    how = {"rho": op.attr("rho", 0.95), "epsilon": op.attr("epsilon", 1e-6)}
    kept = op.input("AvgSquaredGrad"), op.input("AvgSquaredUpdate")
    got = formulas.adadelta(*_pair(op), *kept, **how)
    return _named("ParamOut AvgSquaredGradOut AvgSquaredUpdateOut", got)


@fluid_op("rmsprop")
def rmsprop(op: Op) -> Result:
    centered = op.attr("centered", False)
    square = op.input("MeanSquare")
    mean = op.input("MeanGrad") if centered else o.mul(square, 0.0)
    how = {"rho": op.attr("decay", 0.9), "epsilon": op.attr("epsilon", 1e-10)}
    how |= {"momentum": op.attr("momentum", 0.0), "centered": centered, "lr": _rate(op)}
    got = formulas.rmsprop_inside(*_pair(op), square, mean, op.input("Moment"), **how)
    out = _named("ParamOut MeanSquareOut MeanGradOut MomentOut", got)
    if not centered:
        del out["MeanGradOut"]
        if op.get("MeanGrad") is not None:
            out["MeanGradOut"] = op.input("MeanGrad")
    return out


# ---- Adam and its kin --------------------------------------------------------------------------


def _powers(op: Op) -> dict[str, Any]:
    return {f"beta{i}_power": _scalar(op.input(f"Beta{i}Pow")) for i in (1, 2)}


def _beta(op: Op, i: int, default: float) -> Any:
    tensor = op.get(f"Beta{i}Tensor")
    return op.attr(f"beta{i}", default) if tensor is None else _scalar(tensor)


@fluid_op("adam")
def adam(op: Op) -> Result:
    betas = {"beta1": _beta(op, 1, 0.9), "beta2": _beta(op, 2, 0.999)}
    how = {"lr": _rate(op), "epsilon": op.attr("epsilon", 1e-8), **betas, **_powers(op)}
    got = formulas.adam_outside(*_pair(op), op.input("Moment1"), op.input("Moment2"), **how)
    out = _named("ParamOut Moment1Out Moment2Out", got)
    for i in (1, 2):
        power = op.input(f"Beta{i}Pow")
        out[f"Beta{i}PowOut"] = cast_like(o.mul(power, betas[f"beta{i}"]), power)
    return out


@fluid_op("adamax")
def adamax(op: Op) -> Result:
    how = {"beta1": op.attr("beta1", 0.9), "beta2": op.attr("beta2", 0.999)}
    how |= {"epsilon": op.attr("epsilon", 1e-8), "lr": _rate(op)}
    power = _scalar(op.input("Beta1Pow"))
    kept = op.input("Moment"), op.input("InfNorm")
    got = formulas.adamax(*_pair(op), *kept, beta1_power=power, **how)
    return _named("ParamOut MomentOut InfNormOut", got)


@fluid_op("lamb")
def lamb(op: Op) -> Result:
    how = {"beta1": op.attr("beta1", 0.9), "beta2": op.attr("beta2", 0.999)}
    how |= {"epsilon": op.attr("epsilon", 1e-6), "lr": _rate(op)}
    how |= {"weight_decay": op.need_attr("weight_decay"), **_powers(op)}
    got = formulas.lamb(*_pair(op), op.input("Moment1"), op.input("Moment2"), **how)
    return _named("ParamOut Moment1Out Moment2Out", got)


# ---- privacy, compression, averages ------------------------------------------------------------


@fluid_op("dpsgd")
def dpsgd(op: Op) -> Result:
    """One number of noise for all elements, as Fluid draws it."""
    clip, batch = op.attr("clip", 10.0), op.attr("batch_size", 16.0)
    param, grad = _pair(op)
    sigma = op.attr("sigma", 1.0)
    noise = normal(shape=()) if sigma else 0.0
    how = {"lr": _rate(op), "clip": clip, "deviation": sigma / batch}
    return {"ParamOut": formulas.dpsgd(param, grad, noise, **how)}


@fluid_op("clip_by_norm")
def clip_by_norm(op: Op) -> Result:
    return {"Out": _clipped(op)}


def _clipped(op: Op) -> Any:
    norm = op.need_attr("max_norm")
    if norm <= 0:
        raise ArgumentError("max_norm must be positive", where=op.where, got=repr(norm))
    return formulas.clip_by_norm(op.input("X"), norm)


@fluid_op("dgc_clip_by_norm")
def dgc_clip_by_norm(op: Op) -> Result:
    begun = o.greater_equal(_scalar(op.input("current_step")), op.attr("rampup_begin_step", -1.0))
    return {"Out": o.where(begun, _clipped(op), op.input("X"))}


@fluid_op("dgc_momentum")
def dgc_momentum(op: Op) -> Result:
    """Momentum before compression begins, then SGD: what is compressed has the momentum in it."""
    param, grad = _pair(op)
    ranks = cast_like(_scalar(op.input("nranks")), grad)
    begun = o.greater_equal(_scalar(op.input("current_step")), op.attr("rampup_begin_step", -1.0))
    velocity, rate = op.input("Velocity"), _rate(op)
    how = {"momentum": op.need_attr("mu"), "nesterov": op.attr("use_nesterov", False)}
    moved, kept = o.momentum_update(param, grad, velocity, rate, **how)
    plain = o.sgd_update(param, grad, rate)
    return {
        "Grad_out": o.div(grad, ranks),
        "ParamOut": o.where(begun, plain, moved),
        "VelocityOut": o.where(begun, velocity, kept),
    }


@fluid_op("average_accumulates")
def average_accumulates(op: Op) -> Result:
    sums = [op.input(f"in_sum_{i}") for i in (1, 2, 3)]
    names = ("num_accumulates", "old_num_accumulates", "num_updates")
    counts = [op.input(f"in_{n}") for n in names]
    got = formulas.average_accumulates(
        op.input("param"),
        *sums,
        *map(_scalar, counts),
        rate=op.attr("average_window", 0.0),
        low=op.attr("min_average_window", 10000),
        high=op.need_attr("max_average_window"),
    )
    out: Result = {f"out_sum_{i}": got[i - 1] for i in (1, 2, 3)}
    for name, given, value in zip(names, counts, got[3:], strict=True):
        out[f"out_{name}"] = o.reshape(value, shape=spec_of(given).shape)
    return out
