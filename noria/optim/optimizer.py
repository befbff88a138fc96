"""Optimisers, Program -> Program: backward, decay, clipping and update operators.

State an optimiser keeps for parameter "fc.weight" is "fc.weight.momentum" and the like; the step
count is "optimizer.step", a constant learning rate is "optimizer.rate", which may be changed while
training: `executor.scope["optimizer.rate"] = 1e-4`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noria.core.errors import ArgumentError
from noria.grad import Grad, append_backward
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, State, Value
from noria.ir.sparse import SparseGrad
from noria.ops.update import clip_by_global_norm
from noria.optim.schedules import Schedule

STEP, RATE = "optimizer.step", "optimizer.rate"


def _rate(lr: float | Schedule) -> float | Schedule:
    if not callable(lr) and not (isinstance(lr, (int, float)) and lr >= 0):
        raise ArgumentError("a learning rate must be a number >= 0 or a schedule", got=repr(lr))
    return lr


class Optimizer:
    """Base of optimisers. `minimize` is the whole interface.

    lr:           number, or a schedule of `noria.optim.schedules`
    weight_decay: adds weight_decay * param to the gradient (L2), unless the optimiser decouples it
    decay:        name -> bool: which parameters are decayed, default all
    clip_norm:    scale all gradients so that their global norm is at most this
    """

    decoupled = False

    def __init__(
        self,
        lr: float | Schedule,
        *,
        weight_decay: float = 0.0,
        decay: Callable[[str], bool] | None = None,
        clip_norm: float | None = None,
    ) -> None:
        if weight_decay < 0:
            raise ArgumentError("weight_decay must be >= 0", got=repr(weight_decay))
        if clip_norm is not None and clip_norm <= 0:
            raise ArgumentError("clip_norm must be > 0", got=repr(clip_norm))
        self.lr, self.weight_decay, self.clip_norm = _rate(lr), weight_decay, clip_norm
        self.decay = decay or (lambda name: True)

    def minimize(
        self, program: Program, loss: str = "loss", wrt: Sequence[str] | None = None
    ) -> Program:
        """The training Program: `program`, its backward, and an update of each parameter.

        loss: name of a scalar output; wrt: names of parameters, default all trainable ones.
        """
        out, grads = append_backward(program, loss, wrt)
        with Builder(out, made_by=type(self).__name__) as builder:
            step = builder.state(STEP, (), "int64")
            rate = self._rate_value(builder, step)
            count = o.add(step, 1)
            builder.update(STEP, count)
            if self.clip_norm is not None:
                names = list(grads)
                clipped = clip_by_global_norm([grads[n] for n in names], self.clip_norm)
                grads = dict(zip(names, clipped, strict=True))
            for name, grad in grads.items():
                self._one(builder, out.state[name], grad, rate, count)
        return out

    def _rate_value(self, builder: Builder, step: Value) -> Value:
        if callable(self.lr):
            return self.lr(step)
        return builder.state(RATE, (), init=("fill", {"value": float(self.lr)}))

    def _one(self, builder: Builder, state: State, grad: Grad, rate: Value, count: Value) -> None:
        param, slots = state.value, {}
        decayed = self.weight_decay and self.decay(state.name)
        if decayed and not self.decoupled:
            dense = grad.dense() if isinstance(grad, SparseGrad) else grad
            grad = o.add(dense, o.mul(param, self.weight_decay))
        for slot, start in self.slots().items():
            slots[slot] = builder.state(
                f"{state.name}.{slot}", param.shape, param.dtype, init=("fill", {"value": start})
            )
        decay = self.weight_decay if decayed and self.decoupled else 0.0
        new = self.apply(param, grad, slots, rate, count, decay)
        for name, value in zip([state.name, *(s.name for s in slots.values())], new, strict=True):
            builder.update(name, value)

    def slots(self) -> dict[str, float]:
        """State kept per parameter: name -> first value."""
        return {}

    def apply(
        self,
        param: Value,
        grad: Grad,
        slots: dict[str, Value],
        rate: Value,
        count: Value,
        decay: float,
    ) -> Sequence[Value]:
        """Emit the update of one parameter: its new value, then those of its slots, in order.

        count: number of this step, from 1; decay: decoupled weight decay of this parameter.
        """
        raise NotImplementedError


def emit_update(
    kind: str, param: Value, grad: Grad, *rest: Value, **attrs: Any
) -> tuple[Value, ...]:
    """`<kind>_update`, or `<kind>_update_rows` when the gradient is sparse."""
    if isinstance(grad, SparseGrad):
        got = getattr(o, f"{kind}_update_rows")(param, grad.ids, grad.rows, *rest, **attrs)
    else:
        got = getattr(o, f"{kind}_update")(param, grad, *rest, **attrs)
    return got if isinstance(got, tuple) else (got,)


class SGD(Optimizer):
    """param -= lr * grad.  (Robbins and Monro, 1951)"""

    def apply(self, param, grad, slots, rate, count, decay):
        return emit_update("sgd", param, grad, rate)


class Momentum(Optimizer):
    """velocity = momentum * velocity + grad; param -= lr * velocity.  (Polyak, 1964)

    nesterov: step along grad + momentum * velocity.  (Sutskever et al., 2013)
    """

    def __init__(
        self, lr: float | Schedule, momentum: float = 0.9, *, nesterov: bool = False, **rest: Any
    ) -> None:
        super().__init__(lr, **rest)
        self.momentum, self.nesterov = momentum, nesterov

    def slots(self) -> dict[str, float]:
        return {"velocity": 0.0}

    def apply(self, param, grad, slots, rate, count, decay):
        how = {"momentum": self.momentum, "nesterov": self.nesterov}
        return emit_update("momentum", param, grad, slots["velocity"], rate, **how)


class Adagrad(Optimizer):
    """Steps shrink with the sum of squared gradients.  (Duchi, Hazan and Singer, 2011)"""

    def __init__(
        self, lr: float | Schedule, *, epsilon: float = 1e-10, initial: float = 0.0, **rest: Any
    ) -> None:
        super().__init__(lr, **rest)
        self.epsilon, self.initial = epsilon, initial

    def slots(self) -> dict[str, float]:
        return {"moment": self.initial}

    def apply(self, param, grad, slots, rate, count, decay):
        return emit_update("adagrad", param, grad, slots["moment"], rate, epsilon=self.epsilon)


class Adam(Optimizer):
    """Adaptive moments.  (Kingma and Ba, 2015)"""

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **rest: Any,
    ) -> None:
        super().__init__(lr, **rest)
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
            raise ArgumentError("betas must be in [0, 1)", got=f"{beta1}, {beta2}")
        self.how = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}

    def slots(self) -> dict[str, float]:
        return {"moment1": 0.0, "moment2": 0.0}

    def apply(self, param, grad, slots, rate, count, decay):
        moments = slots["moment1"], slots["moment2"]
        return emit_update(
            "adam", param, grad, *moments, rate, count, weight_decay=decay, **self.how
        )


class AdamW(Adam):
    """Adam whose weight decay does not pass through the moments.  (Loshchilov and Hutter, 2019)"""

    decoupled = True

    def __init__(
        self, lr: float | Schedule = 1e-3, *, weight_decay: float = 0.01, **rest: Any
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **rest)


class RMSProp(Optimizer):
    """Steps divided by a running root mean square of gradients.  (Hinton, 2012)

    centered: subtract the running mean first (Graves, 2013); momentum: as in `Momentum`.
    """

    def __init__(
        self,
        lr: float | Schedule = 1e-2,
        *,
        rho: float = 0.99,
        epsilon: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        **rest: Any,
    ) -> None:
        super().__init__(lr, **rest)
        self.how: dict[str, Any] = {
            "rho": rho,
            "epsilon": epsilon,
            "momentum": momentum,
            "centered": centered,
        }

    def slots(self) -> dict[str, float]:
        return {"mean_square": 0.0, "mean_grad": 0.0, "velocity": 0.0}

    def apply(self, param, grad, slots, rate, count, decay):
        return emit_update("rmsprop", param, grad, *slots.values(), rate, **self.how)
