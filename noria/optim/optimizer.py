"""Optimisers, Program -> Program: backward, decay, clipping and update operators.

State an optimiser keeps for parameter "fc.weight" is "fc.weight.momentum" and the like; the step
count is "optimizer.step", a constant learning rate is "optimizer.rate", which may be changed while
training: `executor.scope["optimizer.rate"] = 1e-4`. Several optimisers of one Program need names,
which take the place of "optimizer".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

from noria.core.errors import ArgumentError, nearest
from noria.grad import Grad, append_backward
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, State, Value
from noria.ir.sparse import SparseGrad
from noria.ops.update import clip_by_global_norm
from noria.optim.schedules import Schedule
from noria.passes.recompute import Budget
from noria.passes.recompute import recompute as recomputing


def _rate(lr: float | Schedule) -> float | Schedule:
    if not callable(lr) and not (isinstance(lr, Real) and 0 <= lr < math.inf):
        raise ArgumentError("a learning rate must be a number >= 0 or a schedule", got=repr(lr))
    return lr


def fractions(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (isinstance(number, Real) and 0 <= number < 1):
            raise ArgumentError(f"{name} must be in [0, 1)", got=repr(number))


def not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (isinstance(number, Real) and 0 <= number < math.inf):
            raise ArgumentError(f"{name} must be a number >= 0", got=repr(number))


class Optimizer:
    """Base of optimisers. `minimize` is the whole interface.

    lr:           number, or a schedule of `noria.optim.schedules`
    weight_decay: adds weight_decay * param to the gradient (L2), unless the optimiser decouples it
    decay:        name -> bool: which parameters are decayed, default all
    clip_norm:    scale all gradients so that their global norm is at most this
    name:         of the step count and the learning rate among the state, for a Program that has
                  several optimisers
    """

    decoupled = False

    def __init__(
        self,
        lr: float | Schedule,
        *,
        weight_decay: float = 0.0,
        decay: Callable[[str], bool] | None = None,
        clip_norm: float | None = None,
        name: str = "optimizer",
    ) -> None:
        not_negative(weight_decay=weight_decay)
        if clip_norm is not None and not (isinstance(clip_norm, Real) and clip_norm > 0):
            raise ArgumentError("clip_norm must be > 0", got=repr(clip_norm))
        if decay is not None and not callable(decay):
            raise ArgumentError("decay is a function of a parameter's name", got=repr(decay))
        self.lr, self.weight_decay, self.clip_norm = _rate(lr), weight_decay, clip_norm
        self.decay = decay or (lambda name: True)
        self.name = name

    def minimize(
        self,
        program: Program,
        loss: str = "loss",
        wrt: Sequence[str] | None = None,
        *,
        recompute: Budget | None = None,
    ) -> Program:
        """The training Program: `program`, its backward, and an update of each parameter.

        loss: name of a scalar output; wrt: names of parameters, default all trainable ones. Those
        that the loss does not depend on stay as they are.
        recompute: bytes for the values of a step; what does not fit is computed again when the
        backward part needs it, as is what was traced within `noria.recomputed()`.
        Raises MissingError if there is no such output; ArgumentError if it is no scalar, for an
        unknown name in `wrt`, and if the Program updates a parameter already or has an optimiser of
        this name; ProgramError if nothing that can be learned leads to the loss.
        """
        out, grads = append_backward(program, loss, wrt)
        _need_free(out, grads)
        with Builder(out, made_by=type(self).__name__) as builder:
            step = declare(builder, f"{self.name}.step", (), "int64", 0.0)
            rate = self._rate_value(builder, step)
            count = o.add(step, 1)
            builder.update(step, count)
            if self.clip_norm is not None:
                names = list(grads)
                clipped = clip_by_global_norm([grads[n] for n in names], self.clip_norm)
                grads = dict(zip(names, clipped, strict=True))
            for name, grad in grads.items():
                self._one(builder, out.state[name], grad, rate, count)
        return recomputing(out, len(program.operators), recompute)

    def _rate_value(self, builder: Builder, step: Value) -> Value:
        if callable(self.lr):
            return self.lr(step)
        return declare(builder, f"{self.name}.rate", (), "float32", float(self.lr))

    def _one(self, builder: Builder, state: State, grad: Grad, rate: Value, count: Value) -> None:
        param, slots = state.value, {}
        decayed = self.weight_decay and self.decay(state.name)
        if decayed and not self.decoupled:
            dense = grad.dense() if isinstance(grad, SparseGrad) else grad
            grad = o.add(dense, o.mul(param, self.weight_decay))
        for slot, start in self.slots().items():
            full = f"{state.name}.{slot}"
            slots[slot] = declare(builder, full, param.shape, param.dtype, start)
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


def _need_free(program: Program, names: Iterable[str]) -> None:
    for name in names:
        if name not in program.state:
            raise ArgumentError(
                f"'{name}' is no state of the Program, so nothing can be learned for it",
                hint=nearest(name, program.parameters()),
            )
        if name in program.updates:
            raise ArgumentError(
                f"'{name}' is updated in this Program already",
                hint="name the parameters of each optimiser: minimize(program, loss, wrt=[...])",
            )


def declare(builder: Builder, name: str, shape: Any, dtype: str, start: float) -> Value:
    """New state. Raises ArgumentError if the Program has state of that name."""
    if name in builder.program.state:
        raise ArgumentError(
            f"the Program already has state called '{name}'",
            hint="give a second optimiser a name of its own: SGD(0.1, name='critic')",
        )
    return builder.state(name, shape, dtype, init=("fill", {"value": start}))


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
        fractions(momentum=momentum)
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
        not_negative(epsilon=epsilon, initial=initial)
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
        fractions(beta1=beta1, beta2=beta2)
        not_negative(epsilon=epsilon)
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
        fractions(rho=rho, momentum=momentum)
        not_negative(epsilon=epsilon)
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
