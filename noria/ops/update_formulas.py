"""Steps of further optimisers, composed of elementwise ops: the loop generator makes one pass of
each, and one call of all of them.

A formula takes the parameter, its gradient and the state it keeps, and gives the new parameter and
the new state, in that order. lr: float [] or [1], the learning rate; beta1_power, beta2_power: the
betas to the power of the number of this step, float [] or [1].
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import cast_like, single


def _mixed(old: Any, new: Any, keep: float) -> Any:
    """keep * old + (1 - keep) * new."""
    return o.add(o.mul(old, keep), o.mul(new, 1.0 - keep))


def _length(x: Any) -> Any:
    """Euclidean length of all elements, float32 [] or float64 []."""
    return o.sqrt(o.reduce_sum(o.square(single(x))))


# ---- steps divided by what gradients were ------------------------------------------------------


def adadelta(
    param: Any,
    grad: Any,
    mean_square: Any,
    mean_step: Any,
    *,
    lr: Any = 1.0,
    rho: float = 0.95,
    epsilon: float = 1e-6,
) -> tuple[Any, Any, Any]:
    """(new param, running mean of squared gradients, of squared steps).  (Zeiler, 2012)"""
    mean_square = _mixed(mean_square, o.square(grad), rho)
    ratio = o.div(o.add(mean_step, epsilon), o.add(mean_square, epsilon))
    step = o.mul(o.sqrt(ratio), grad)
    return o.sub(param, o.mul(step, lr)), mean_square, _mixed(mean_step, o.square(step), rho)


def decayed_adagrad(
    param: Any, grad: Any, moment: Any, *, lr: Any, decay: float = 0.95, epsilon: float = 1e-6
) -> tuple[Any, Any]:
    """Adagrad that forgets: m = decay * m + (1 - decay) * grad^2."""
    moment = _mixed(moment, o.square(grad), decay)
    step = o.div(o.mul(grad, lr), o.add(o.sqrt(moment), epsilon))
    return o.sub(param, step), moment


def rmsprop_inside(
    param: Any,
    grad: Any,
    mean_square: Any,
    mean_grad: Any,
    velocity: Any,
    *,
    lr: Any,
    rho: float = 0.95,
    epsilon: float = 1e-6,
    momentum: float = 0.0,
    centered: bool = False,
) -> tuple[Any, Any, Any, Any]:
    """RMSProp as Hinton's lecture has it: epsilon inside the root, the rate inside the velocity.
    (Hinton, 2012). `rmsprop_update` is PyTorch's, which has both outside."""
    mean_square = _mixed(mean_square, o.square(grad), rho)
    spread = mean_square
    if centered:
        mean_grad = _mixed(mean_grad, grad, rho)
        spread = o.sub(mean_square, o.square(mean_grad))
    step = o.div(o.mul(grad, lr), o.sqrt(o.add(spread, epsilon)))
    velocity = o.add(o.mul(velocity, momentum), step)
    return o.sub(param, velocity), mean_square, mean_grad, velocity


def adamax(
    param: Any,
    grad: Any,
    moment: Any,
    largest: Any,
    *,
    lr: Any,
    beta1_power: Any,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Any, Any, Any]:
    """Adam with the largest gradient of late instead of a root mean square.  (Kingma & Ba, 2015)"""
    moment = _mixed(moment, grad, beta1)
    largest = o.maximum(o.abs(grad), o.add(o.mul(largest, beta2), epsilon))
    rate = o.div(lr, o.sub(1.0, beta1_power))
    return o.sub(param, o.mul(o.div(moment, largest), rate)), moment, largest


def adam_outside(
    param: Any,
    grad: Any,
    moment1: Any,
    moment2: Any,
    *,
    lr: Any,
    beta1_power: Any,
    beta2_power: Any,
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Any, Any, Any]:
    """Adam in the order that ends section 2 of its paper: epsilon beside the root of the moment as
    it is, the corrections in the rate.  (Kingma & Ba, 2015). `adam_update` corrects first."""
    moment1 = o.add(o.mul(moment1, beta1), o.mul(grad, o.sub(1.0, beta1)))
    moment2 = o.add(o.mul(moment2, beta2), o.mul(o.square(grad), o.sub(1.0, beta2)))
    rate = o.div(o.mul(lr, o.sqrt(o.sub(1.0, beta2_power))), o.sub(1.0, beta1_power))
    step = o.div(moment1, o.add(o.sqrt(moment2), epsilon))
    return o.sub(param, o.mul(step, rate)), moment1, moment2


# ---- steps scaled to the parameter -------------------------------------------------------------


def lamb(
    param: Any,
    grad: Any,
    moment1: Any,
    moment2: Any,
    *,
    lr: Any,
    beta1_power: Any,
    beta2_power: Any,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-6,
    weight_decay: float = 0.0,
) -> tuple[Any, Any, Any]:
    """Adam's step at the length of the parameter.  (You et al., 2020)"""
    moment1 = _mixed(moment1, grad, beta1)
    moment2 = _mixed(moment2, o.square(grad), beta2)
    mean = o.div(moment1, cast_like(o.sub(1.0, beta1_power), param))
    spread = o.sqrt(o.div(moment2, cast_like(o.sub(1.0, beta2_power), param)))
    step = o.add(o.div(mean, o.add(spread, epsilon)), o.mul(param, weight_decay))
    length, of_step = _length(param), _length(step)
    both = o.logical_and(o.greater(length, 0.0), o.greater(of_step, 0.0))
    trust = o.where(both, o.div(length, o.where(both, of_step, 1.0)), 1.0)
    return o.sub(param, cast_like(o.mul(step, o.mul(lr, trust)), param)), moment1, moment2


def lars(
    param: Any,
    grad: Any,
    velocity: Any,
    *,
    lr: Any,
    momentum: float = 0.9,
    coefficient: float = 0.001,
    weight_decay: float = 0.0005,
    epsilon: float = 0.0,
) -> tuple[Any, Any]:
    """Momentum with a rate for each parameter, of its length and its gradient's.
    (You, Gitman & Ginsburg, 2017)

    A parameter or gradient of length 0 takes the rate as it is.
    """
    length, of_grad = _length(param), _length(grad)
    divisor = o.add(o.add(of_grad, o.mul(length, weight_decay)), epsilon)
    both = o.logical_and(o.greater(length, 0.0), o.greater(of_grad, 0.0))
    local = o.div(o.mul(length, coefficient), o.where(both, divisor, 1.0))
    rate = cast_like(o.mul(lr, o.where(both, local, 1.0)), param)
    pull = o.add(grad, o.mul(param, weight_decay))
    velocity = o.add(o.mul(velocity, momentum), o.mul(pull, rate))
    return o.sub(param, velocity), velocity


# ---- steps towards zero ------------------------------------------------------------------------


def _shrunk(x: Any, rate: Any, l1: float, l2: float) -> Any:
    """The proximal step of l1 |x| + l2 x^2 / 2."""
    if l1 > 0:
        x = o.mul(o.sign(x), o.maximum(o.sub(o.abs(x), o.mul(rate, l1)), 0.0))
    return o.div(x, o.add(o.mul(rate, l2), 1.0))


def proximal_sgd(param: Any, grad: Any, *, lr: Any, l1: float = 0.0, l2: float = 0.0) -> Any:
    """SGD, then shrunk by l1 and l2.  (Duchi & Singer, 2009)"""
    return _shrunk(o.sub(param, o.mul(grad, lr)), lr, l1, l2)


def proximal_adagrad(
    param: Any, grad: Any, moment: Any, *, lr: Any, l1: float = 0.0, l2: float = 0.0
) -> tuple[Any, Any]:
    """Adagrad without an epsilon, then shrunk by l1 and l2.  (Duchi & Singer, 2009)

    A gradient that has been 0 ever since leaves its parameter to the shrinking.
    """
    moment = o.add(moment, o.square(grad))
    root = o.sqrt(moment)
    step = o.where(o.greater(root, 0.0), o.div(o.mul(grad, lr), root), 0.0)
    return _shrunk(o.sub(param, step), lr, l1, l2), moment


def ftrl(
    param: Any,
    grad: Any,
    squared: Any,
    linear: Any,
    *,
    lr: Any,
    l1: float = 0.0,
    l2: float = 0.0,
    power: float = -0.5,
) -> tuple[Any, Any, Any]:
    """(new param, sum of squared gradients, the linear part): follow the regularised leader.
    (McMahan et al., 2013)

    power: of the rate, -0.5 for the root of the sum. l1 keeps small parameters at exactly 0.
    """

    def rooted(x: Any) -> Any:
        return o.sqrt(x) if power == -0.5 else o.pow(x, -power)

    total = o.add(squared, o.square(grad))
    root = rooted(total)
    sigma = o.div(o.sub(root, rooted(squared)), lr)
    linear = o.sub(o.add(linear, grad), o.mul(sigma, param))
    pull = o.sub(o.mul(o.sign(linear), l1), linear)
    new = o.div(pull, o.add(o.div(root, lr), 2.0 * l2))
    return o.where(o.greater(o.abs(linear), l1), new, 0.0), total, linear


# ---- averages ----------------------------------------------------------------------------------

SPAN = 16384  # steps after which a sum is put away, so that small numbers are not lost in it


def average_accumulates(
    param: Any,
    sum1: Any,
    sum2: Any,
    sum3: Any,
    count: Any,
    old_count: Any,
    updates: Any,
    *,
    rate: float,
    low: int,
    high: int,
) -> tuple[Any, ...]:
    """(three sums, count, old_count, updates): sums of a parameter over a window of late steps.

    sum1: of the last steps, sum2: of earlier ones of this window, sum3: of the window before. The
    mean is (sum1 + sum2 + sum3) / (count + old_count). When `count` reaches rate * updates, `low`
    at least and `high` at most, a new window starts. count, old_count, updates: int64 [] or [1].
    """
    updates, count = o.add(updates, 1), o.add(count, 1)
    sum1 = o.add(sum1, param)
    put_away = o.equal(o.remainder(updates, SPAN), 0)
    sum2 = o.where(put_away, o.add(sum2, sum1), sum2)
    sum1 = o.where(put_away, 0.0, sum1)
    share = o.cast(o.floor(o.mul(o.cast(updates, dtype="float64"), rate)), dtype=count.dtype)
    full = o.logical_and(
        o.greater_equal(count, low), o.greater_equal(count, o.minimum(share, high))
    )
    sum3 = o.where(full, o.add(sum1, sum2), sum3)
    old_count = o.where(full, count, old_count)
    return (
        o.where(full, 0.0, sum1),
        o.where(full, 0.0, sum2),
        sum3,
        o.where(full, 0, count),
        old_count,
        updates,
    )


# ---- privacy and compression -------------------------------------------------------------------


def clip_by_norm(x: Any, norm: float) -> Any:
    """x * norm / max(length of x, norm).  (Pascanu, Mikolov & Bengio, 2013)"""
    scale = o.div(norm, o.maximum(_length(x), norm))
    return o.mul(x, cast_like(scale, x))


def dpsgd(param: Any, grad: Any, noise: Any, *, lr: Any, clip: float, deviation: float) -> Any:
    """SGD on a gradient clipped to the length `clip`, with noise: differential privacy.
    (Abadi et al., 2016)

    noise: standard normal, as many as the gradient has elements or one for all; deviation: what it
    is multiplied by, sigma * clip / batch in the paper.
    """
    noisy = o.add(clip_by_norm(grad, clip), o.mul(noise, deviation))
    return o.sub(param, o.mul(noisy, lr))


def sparsified(
    grad: Any, velocity: Any, waiting: Any, *, momentum: float, share: float
) -> tuple[Any, Any, Any]:
    """(what is applied now, new velocity, what waits): gradient compression.  (Lin et al., 2018)

    Of velocity + what has been waiting only the `share` of elements that are largest is applied;
    the others wait, and add up. share: in (0, 1].
    """
    velocity = o.add(o.mul(velocity, momentum), grad)
    total = o.add(waiting, velocity)
    sent = o.greater_equal(o.abs(total), _threshold(o.abs(total), share))
    return o.where(sent, total, 0.0), o.where(sent, 0.0, velocity), o.where(sent, 0.0, total)


def _threshold(sizes: Any, share: float) -> Any:
    """The smallest of the `share` of elements that are largest."""
    flat = o.reshape(sizes, shape=(-1,))
    count = flat.shape[0]
    kept = max(1, round(share * count))
    largest, _ = o.topk(flat, k=kept)
    return o.slice(largest, axes=(0,), starts=(kept - 1,), stops=(kept,))
