"""Layers. Parameter names, shapes and initial distributions follow PyTorch's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.core.dims import product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.module import Module, Parameter, emitting, pending, update
from noria.ops.common import pair
from noria.ops.random import dropout


def positive(**sizes: int) -> None:
    """Raises ArgumentError unless each is a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ArgumentError(f"{name} must be a positive integer", got=repr(size))


def _kernel(size: int | Sequence[int]) -> tuple[int, ...]:
    sizes = pair(size, what="kernel_size")
    for s in sizes:
        positive(kernel_size=s)
    return sizes


def _divisible(groups: int, **channels: int) -> None:
    positive(groups=groups, **channels)
    if any(c % groups for c in channels.values()):
        got = ", ".join(f"{name}={c}" for name, c in channels.items())
        raise ArgumentError("channels must be divisible by groups", got=f"{got}, groups={groups}")


def _not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not isinstance(number, (int, float)) or not number >= 0:
            raise ArgumentError(f"{name} must be a number >= 0", got=repr(number))


class Linear(Module):
    """x @ weight.T + bias.  x [..., in], weight [out, in], bias [out]."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        positive(in_features=in_features, out_features=out_features)
        start = init.fan_in_uniform(in_features)
        self.weight = Parameter((out_features, in_features), start)
        self.bias = Parameter((out_features,), start) if bias else None

    def __call__(self, x: Any) -> Any:
        return o.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """Convolution.  x [N, in, H, W], weight [out, in/groups, kh, kw] -> [N, out, H', W']."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Any = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        _divisible(groups, in_channels=in_channels, out_channels=out_channels)
        shape = (out_channels, in_channels // groups, *_kernel(kernel_size))
        start = init.fan_in_uniform(init.fans(shape)[0])
        self.weight = Parameter(shape, start)
        self.bias = Parameter((out_channels,), start) if bias else None
        self._how = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }

    def __call__(self, x: Any) -> Any:
        return o.conv2d(x, self.weight, self.bias, **self._how)


class ConvTranspose2d(Module):
    """Transposed convolution.  weight [in, out/groups, kh, kw]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        _divisible(groups, in_channels=in_channels, out_channels=out_channels)
        shape = (in_channels, out_channels // groups, *_kernel(kernel_size))
        start = init.fan_in_uniform(init.fans(shape)[0])
        self.weight = Parameter(shape, start)
        self.bias = Parameter((out_channels,), start) if bias else None
        self._how: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "dilation": dilation,
            "groups": groups,
        }

    def __call__(self, x: Any) -> Any:
        return o.conv_transpose2d(x, self.weight, self.bias, **self._how)


class BatchNorm(Module):
    """Normalise each channel (axis 1) over the batch.  (Ioffe and Szegedy, 2015)

    While a Program is built: batch statistics, and an update of the running ones
    (new = (1 - momentum) * old + momentum * batch), once for each time it is called. At test time:
    the running ones.
    """

    ranks: tuple[int, ...] = (2, 3, 4, 5)

    def __init__(self, features: int, *, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        positive(features=features)
        _not_negative(epsilon=epsilon)
        if not isinstance(momentum, (int, float)) or not 0 <= momentum <= 1:
            raise ArgumentError("momentum must be in [0, 1]", got=repr(momentum))
        self.weight = Parameter((features,), init.ones())
        self.bias = Parameter((features,), init.zeros())
        self.running_mean = Parameter((features,), init.zeros(), trainable=False)
        self.running_var = Parameter((features,), init.ones(), trainable=False)
        self.epsilon, self.momentum = epsilon, momentum

    def __call__(self, x: Any) -> Any:
        if x.ndim not in self.ranks:
            raise ArgumentError(
                f"{type(self).__name__} takes rank {' or '.join(map(str, self.ranks))}", got=str(x)
            )
        statistics = (self.weight, self.bias, self.running_mean, self.running_var)
        how = {"epsilon": self.epsilon, "momentum": self.momentum}
        if not emitting():
            return o.batch_norm(x, *statistics, training=False, **how)
        out, _, _, mean, var = o.batch_norm(x, *statistics, training=True, **how)
        self._move(self.running_mean, mean)
        self._move(self.running_var, var)
        return out

    def _move(self, running: Parameter, new: Any) -> None:
        """Update a running statistic. `new` starts from its value before the step: where another
        call has moved it since, that move is made first, and fades by 1 - momentum as all do."""
        earlier = pending(running)
        if earlier is not None:
            new = o.add(new, o.mul(o.sub(earlier, running), 1 - self.momentum))
        update(running, new)


class BatchNorm1d(BatchNorm):
    """Batch norm of [N, C] or [N, C, L]."""

    ranks = (2, 3)


class BatchNorm2d(BatchNorm):
    """Batch norm of [N, C, H, W]."""

    ranks = (4,)


class LayerNorm(Module):
    """Normalise the last axes of each example.  (Ba, Kiros and Hinton, 2016)"""

    def __init__(self, shape: int | Sequence[int], *, epsilon: float = 1e-5) -> None:
        _not_negative(epsilon=epsilon)
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not self.shape:
            raise ArgumentError("LayerNorm needs an axis to normalise", got="()")
        for size in self.shape:
            positive(shape=size)
        self.weight = Parameter(self.shape, init.ones())
        self.bias = Parameter(self.shape, init.zeros())
        self.epsilon = epsilon

    def __call__(self, x: Any) -> Any:
        axes = tuple(range(-len(self.shape), 0))
        return o.layer_norm(x, self.weight, self.bias, axes=axes, epsilon=self.epsilon)[0]


class GroupNorm(Module):
    """Normalise groups of channels of each example.  (Wu and He, 2018)"""

    def __init__(self, groups: int, channels: int, *, epsilon: float = 1e-5) -> None:
        _divisible(groups, channels=channels)
        _not_negative(epsilon=epsilon)
        self.weight = Parameter((channels,), init.ones())
        self.bias = Parameter((channels,), init.zeros())
        self.groups, self.epsilon = groups, epsilon

    def __call__(self, x: Any) -> Any:
        return o.group_norm(x, self.weight, self.bias, groups=self.groups, epsilon=self.epsilon)


class Dropout(Module):
    """Zero each element with probability p and scale the rest by 1/(1-p), in training only.

    (Srivastava et al., 2014)
    """

    def __init__(self, p: float = 0.5) -> None:
        if not isinstance(p, (int, float)) or not 0 <= p < 1:
            raise ArgumentError("dropout probability must be in [0, 1)", got=repr(p))
        self.p = p

    def __call__(self, x: Any) -> Any:
        return dropout(x, p=self.p) if emitting() and self.p > 0 else x


class _Pool(Module):
    op = ""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        **how: Any,
    ) -> None:
        kernel = _kernel(kernel_size)
        stride = kernel if stride is None else stride
        how = dict(kernel=kernel, stride=stride, padding=padding, **how)
        self._how = lookup(self.op).bind_attrs(how)

    def __call__(self, x: Any) -> Any:
        return getattr(o, self.op)(x, **self._how)


class MaxPool2d(_Pool):
    """Largest element of each window."""

    op = "max_pool2d"


class AvgPool2d(_Pool):
    """Mean of each window."""

    op = "avg_pool2d"


class AdaptiveAvgPool2d(Module):
    """Mean over windows chosen so that the output is [N, C, *size]."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = pair(size, what="size")
        for n in self.size:
            positive(size=n)

    def __call__(self, x: Any) -> Any:
        return o.adaptive_avg_pool2d(x, size=self.size)


class Flatten(Module):
    """[N, ...] -> [N, product of the rest]."""

    def __call__(self, x: Any) -> Any:
        if x.ndim == 0:
            raise ShapeError("a scalar has no axis to keep", got=str(x))
        return o.reshape(x, shape=(x.shape[0], product(x.shape[1:])))


class Identity(Module):
    """Its input."""

    def __call__(self, x: Any) -> Any:
        return x


class _Activation(Module):
    op = ""

    def __init__(self, **attrs: Any) -> None:
        self._attrs = lookup(self.op).bind_attrs(attrs)

    def __call__(self, x: Any) -> Any:
        return getattr(o, self.op)(x, **self._attrs)


class ReLU(_Activation):
    """max(x, 0).  (Nair and Hinton, 2010)"""

    op = "relu"


class GELU(_Activation):
    """x times the normal distribution function of x.  (Hendrycks and Gimpel, 2016)"""

    op = "gelu"


class SiLU(_Activation):
    """x * sigmoid(x), also called swish.  (Elfwing, Uchibe and Doya, 2018)"""

    op = "silu"


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    op = "sigmoid"


class Tanh(_Activation):
    """Hyperbolic tangent."""

    op = "tanh"


class Softmax(_Activation):
    """exp(x) divided by its sum along `axis` (default the last)."""

    op = "softmax"
