"""Further optimisers, of formulas in `ops/update_formulas.py`; and averages of parameters.

A sparse gradient changes only the rows it names, parameter and state alike, except where a step
depends on the length of the whole parameter: there it is made dense.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noria.core.errors import ArgumentError
from noria.grad import Grad
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.ir.sparse import SparseGrad
from noria.ops import update_formulas as formulas
from noria.ops.numeric import cast_like
from noria.ops.random import normal
from noria.optim.optimizer import Optimizer, fractions, not_negative
from noria.optim.schedules import Schedule


class Formula(Optimizer):
    """Base of optimisers whose step is `formula(param, grad, *slots, lr=..., **numbers)`.

    whole: the step depends on the whole parameter
    """

    whole = False
    formula: Callable[..., Any]  # a static method

    def numbers(self, count: Value) -> dict[str, Any]:
        """What the formula takes beside lr; count: number of this step, from 1."""
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
        how = {"lr": rate, **self.numbers(count)}
        if isinstance(grad, SparseGrad) and not self.whole:
            return self._rows(param, grad, list(slots.values()), how)
        dense = grad.dense() if isinstance(grad, SparseGrad) else grad
        return self._step([param, dense, *slots.values()], how)

    def _step(self, arrays: Sequence[Any], how: dict[str, Any]) -> tuple[Any, ...]:
        got = type(self).formula(*map(_single, arrays), **how)
        new = got if isinstance(got, tuple) else (got,)
        kept = (arrays[0], *arrays[2:])
        return tuple(cast_like(n, old) for n, old in zip(new, kept, strict=True))

    def _rows(
        self, param: Value, grad: SparseGrad, slots: list[Value], how: dict[str, Any]
    ) -> list[Value]:
        """The step of the rows that the gradient names."""
        flat = grad.flat()
        ids, total = o.merge_rows(flat.ids, flat.rows, shape=grad.shape)
        last = o.sub(o.dim_value(dim=grad.shape[0]), 1)
        at = o.minimum(ids, cast_like(last, ids))
        rows = [o.gather(table, at, axis=0) for table in (param, *slots)]
        new = self._step([rows[0], total, *rows[1:]], how)
        return [o.put_rows(t, ids, r) for t, r in zip((param, *slots), new, strict=True)]


def _single(x: Any) -> Any:
    return o.cast(x, dtype="float32") if x.dtype in ("bfloat16", "float16") else x


def _power(beta: float, count: Value) -> Any:
    """beta^count, float32 []."""
    return o.pow(beta, o.cast(count, dtype="float32"))


class Adadelta(Formula):
    """Steps in the units of the parameter, without a rate to tune.  (Zeiler, 2012)"""

    formula = staticmethod(formulas.adadelta)

    def __init__(
        self,
        lr: float | Schedule = 1.0,
        *,
        rho: float = 0.9,
        epsilon: float = 1e-6,
        **rest: Any,
    ) -> None:
        super().__init__(lr, **rest)
        fractions(rho=rho)
        not_negative(epsilon=epsilon)
        self.how = {"rho": rho, "epsilon": epsilon}

    def slots(self) -> dict[str, float]:
        return {"mean_square": 0.0, "mean_step": 0.0}

    def numbers(self, count: Value) -> dict[str, Any]:
        return self.how


class DecayedAdagrad(Formula):
    """Adagrad that forgets old gradients."""

    formula = staticmethod(formulas.decayed_adagrad)

    def __init__(
        self, lr: float | Schedule, *, decay_rate: float = 0.95, epsilon: float = 1e-6, **rest: Any
    ) -> None:
        super().__init__(lr, **rest)
        fractions(decay_rate=decay_rate)
        not_negative(epsilon=epsilon)
        self.how = {"decay": decay_rate, "epsilon": epsilon}

    def slots(self) -> dict[str, float]:
        return {"moment": 0.0}

    def numbers(self, count: Value) -> dict[str, Any]:
        return self.how


class Adamax(Formula):
    """Adam with the largest gradient of late.  (Kingma and Ba, 2015)"""

    formula = staticmethod(formulas.adamax)

    def __init__(
        self,
        lr: float | Schedule = 2e-3,
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
        return {"moment": 0.0, "largest": 0.0}

    def numbers(self, count: Value) -> dict[str, Any]:
        return {**self.how, "beta1_power": _power(self.how["beta1"], count)}


class LAMB(Formula):
    """Adam's direction at the length of each parameter, for large batches.  (You et al., 2020)

    weight_decay is part of the direction, and does not pass through the moments.
    """

    decoupled = True
    whole = True
    formula = staticmethod(formulas.lamb)

    def __init__(
        self,
        lr: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.01,
        **rest: Any,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **rest)
        fractions(beta1=beta1, beta2=beta2)
        not_negative(epsilon=epsilon)
        self.how = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}

    def slots(self) -> dict[str, float]:
        return {"moment1": 0.0, "moment2": 0.0}

    def numbers(self, count: Value) -> dict[str, Any]:
        powers = {f"{b}_power": _power(self.how[b], count) for b in ("beta1", "beta2")}
        return {**self.how, **powers}

    def apply(self, param, grad, slots, rate, count, decay):
        dense = grad.dense() if isinstance(grad, SparseGrad) else grad
        how = {"lr": rate, "weight_decay": decay, **self.numbers(count)}
        return self._step([param, dense, *slots.values()], how)


class LARS(Formula):
    """Momentum with a rate for each parameter, of its length and its gradient's, for large batches.
    (You, Gitman and Ginsburg, 2017)"""

    decoupled = True
    whole = True
    formula = staticmethod(formulas.lars)

    def __init__(
        self,
        lr: float | Schedule,
        momentum: float = 0.9,
        *,
        coefficient: float = 0.001,
        epsilon: float = 0.0,
        weight_decay: float = 0.0005,
        **rest: Any,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **rest)
        fractions(momentum=momentum)
        not_negative(coefficient=coefficient, epsilon=epsilon)
        self.how = {"momentum": momentum, "coefficient": coefficient, "epsilon": epsilon}

    def slots(self) -> dict[str, float]:
        return {"velocity": 0.0}

    def apply(self, param, grad, slots, rate, count, decay):
        dense = grad.dense() if isinstance(grad, SparseGrad) else grad
        how = {"lr": rate, "weight_decay": decay, **self.how}
        return self._step([param, dense, *slots.values()], how)


class ProximalSGD(Formula):
    """SGD that draws parameters to 0, by l1 to exactly 0.  (Duchi and Singer, 2009)"""

    formula: Callable[..., Any] = staticmethod(formulas.proximal_sgd)

    def __init__(
        self, lr: float | Schedule, *, l1: float = 0.0, l2: float = 0.0, **rest: Any
    ) -> None:
        super().__init__(lr, **rest)
        not_negative(l1=l1, l2=l2)
        self.how = {"l1": l1, "l2": l2}

    def numbers(self, count: Value) -> dict[str, Any]:
        return self.how


class ProximalAdagrad(ProximalSGD):
    """Adagrad whose parameters are drawn to 0.  (Duchi and Singer, 2009)"""

    formula: Callable[..., Any] = staticmethod(formulas.proximal_adagrad)

    def __init__(self, lr: float | Schedule, *, initial: float = 0.1, **rest: Any) -> None:
        super().__init__(lr, **rest)
        not_negative(initial=initial)
        self.initial = initial

    def slots(self) -> dict[str, float]:
        return {"moment": self.initial}


class FTRL(Formula):
    """Follow the regularised leader: sparse models of clicks.  (McMahan et al., 2013)

    power: of the rate in the sum of squared gradients, at most 0; l1 > 0 keeps small parameters at
    exactly 0.
    """

    formula = staticmethod(formulas.ftrl)

    def __init__(
        self,
        lr: float | Schedule,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        power: float = -0.5,
        initial: float = 0.1,
        **rest: Any,
    ) -> None:
        super().__init__(lr, **rest)
        not_negative(l1=l1, l2=l2, initial=initial)
        if power > 0:
            raise ArgumentError("power is at most 0", got=repr(power))
        self.initial = initial
        self.how = {"l1": l1, "l2": l2, "power": power}

    def slots(self) -> dict[str, float]:
        return {"squared": self.initial, "linear": 0.0}

    def numbers(self, count: Value) -> dict[str, Any]:
        return self.how


class DPSGD(Formula):
    """SGD on clipped gradients with noise, for differential privacy.  (Abadi et al., 2016)

    clip: the length of a gradient at most; sigma: of the noise, in units of clip / batch; batch:
    how many examples the loss is the mean of. The noise is that of the Program's random state.
    """

    whole = True
    formula = staticmethod(formulas.dpsgd)

    def __init__(
        self,
        lr: float | Schedule,
        *,
        clip: float = 1.0,
        sigma: float = 1.0,
        batch: int = 1,
        **rest: Any,
    ) -> None:
        super().__init__(lr, **rest)
        not_negative(sigma=sigma)
        if clip <= 0 or batch < 1:
            raise ArgumentError("clip and batch must be positive", got=f"{clip}, {batch}")
        self.clip, self.sigma, self.batch = clip, sigma, batch

    def apply(self, param, grad, slots, rate, count, decay):
        dense = grad.dense() if isinstance(grad, SparseGrad) else grad
        noise = normal(shape=param.shape)
        deviation = self.sigma * self.clip / self.batch
        how = {"lr": rate, "clip": self.clip, "deviation": deviation}
        new = formulas.dpsgd(_single(param), _single(dense), noise, **how)
        return (cast_like(new, param),)


class DGCMomentum(Formula):
    """Momentum that applies only the largest part of each step and keeps the rest for later: what a
    worker of deep gradient compression sends.  (Lin et al., 2018)

    share: of the elements that are applied in a step, in (0, 1]. Parameters of fewer than `dense`
    elements are applied whole.
    """

    whole = True
    formula = staticmethod(formulas.sparsified)

    def __init__(
        self,
        lr: float | Schedule,
        momentum: float = 0.9,
        *,
        share: float = 0.001,
        dense: int = 16384,
        **rest: Any,
    ) -> None:
        super().__init__(lr, **rest)
        fractions(momentum=momentum)
        if not 0 < share <= 1:
            raise ArgumentError("share lies in (0, 1]", got=repr(share))
        self.momentum, self.share, self.dense = momentum, share, dense

    def slots(self) -> dict[str, float]:
        return {"velocity": 0.0, "waiting": 0.0}

    def apply(self, param, grad, slots, rate, count, decay):
        whole = grad.dense() if isinstance(grad, SparseGrad) else grad
        share = self.share if _elements(param) >= self.dense else 1.0
        velocity, waiting = slots.values()
        arrays = map(_single, (whole, velocity, waiting))
        sent, *kept = formulas.sparsified(*arrays, momentum=self.momentum, share=share)
        new = o.sub(_single(param), o.mul(sent, rate))
        return [cast_like(n, param) for n in (new, *kept)]


def _elements(param: Value) -> int:
    size = 1
    for n in param.shape:
        size *= int(n)
    return size
