"""Convolutional networks in JAX: channels last, weights HWIO."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from bench import data, sizes
from bench.flops import MOBILENET
from bench.rivals.jax_xla.common import Run, Scope, inference, training
from bench.rivals.jax_xla.dense import cross_entropy

LAYOUT = ("NHWC", "HWIO", "NHWC")
MOMENTUM = 0.9


class Vision:
    """Layers over a scope; `learning` says which statistics batch norm uses."""

    def __init__(self, scope: Scope, learning: bool) -> None:
        self.s, self.learning, self.count = scope, learning, 0

    def conv(self, x: Any, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Any:
        """Padded by half the kernel."""
        return self._conv(x, out, kernel, stride, groups, [(kernel // 2,) * 2] * 2)

    def valid(self, x: Any, out: int, kernel: int) -> Any:
        """Without padding, with bias."""
        y = self._conv(x, out, kernel, 1, 1, "VALID")
        return y + self.s.param(f"bias{self.count}", out)

    def _conv(self, x: Any, out: int, kernel: int, stride: int, groups: int, padding: Any) -> Any:
        self.count += 1
        shape = (kernel, kernel, x.shape[-1] // groups, out)
        w = self.s.param(f"conv{self.count}", *shape).astype(x.dtype)
        return lax.conv_general_dilated(
            x, w, (stride, stride), padding, dimension_numbers=LAYOUT, feature_group_count=groups
        )

    def norm(self, x: Any) -> Any:
        """Batch norm; statistics are float32."""
        self.count += 1
        name, c = f"norm{self.count}", x.shape[-1]
        scale, shift = self.s.param(f"{name}.w", c), self.s.param(f"{name}.b", c)
        ones = jnp.ones(c, jnp.float32)
        mean, var = self.s.stats.get(f"{name}.m", ones), self.s.stats.get(f"{name}.v", ones)
        if self.learning:
            old, (mean, var) = (mean, var), _moments(x)
            for part, before, now in (("m", old[0], mean), ("v", old[1], var)):
                self.s.new[f"{name}.{part}"] = lax.stop_gradient(
                    MOMENTUM * before + (1 - MOMENTUM) * now
                )
        else:
            self.s.new.update({f"{name}.m": mean, f"{name}.v": var})
        factor = scale * lax.rsqrt(var + 1e-5)
        return (x * factor + (shift - mean * factor)).astype(x.dtype)

    def classes(self, x: Any, count: int) -> Any:
        """Mean over space, then a linear layer."""
        return self.s.linear("fc", x.mean((1, 2)), count)


def _moments(x: Any) -> tuple[Any, Any]:
    x = x.astype(jnp.float32)
    mean = x.mean((0, 1, 2))
    return mean, (x * x).mean((0, 1, 2)) - mean * mean


def max_pool(x: Any, kernel: int, stride: int, padding: int = 0) -> Any:
    around = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    window, strides = (1, kernel, kernel, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, around)


def lenet(s: Scope, x: Any, learning: bool) -> Any:
    v = Vision(s, learning)
    x = v.norm(max_pool(jax.nn.relu(v.valid(x, 20, 5)), 2, 2))
    x = max_pool(jax.nn.relu(v.valid(x, 50, 5)), 2, 2)
    return s.linear("fc", x.reshape(len(x), -1), 10)


def resnet50(s: Scope, x: Any, learning: bool) -> Any:
    v, relu = Vision(s, learning), jax.nn.relu
    x = max_pool(relu(v.norm(v.conv(x, 64, 7, 2))), 3, 2, 1)
    for i, count in enumerate((3, 4, 6, 3)):
        for j in range(count):
            width, stride = 64 * 2**i, 2 if i > 0 and j == 0 else 1
            y = relu(v.norm(v.conv(x, width, 1)))
            y = v.norm(v.conv(relu(v.norm(v.conv(y, width, 3, stride))), 4 * width, 1))
            skip = v.norm(v.conv(x, 4 * width, 1, stride)) if j == 0 else x
            x = relu(y + skip)
    return v.classes(x, 1000)


def mobilenet_v2(s: Scope, x: Any, learning: bool) -> Any:
    v, relu = Vision(s, learning), jax.nn.relu6
    x = relu(v.norm(v.conv(x, 32, 3, 2)))
    for expansion, width, blocks, stride in MOBILENET:
        for j in range(blocks):
            hidden, y = x.shape[-1] * expansion, x
            if expansion > 1:
                y = relu(v.norm(v.conv(y, hidden, 1)))
            y = relu(v.norm(v.conv(y, hidden, 3, stride if j == 0 else 1, hidden)))
            y = v.norm(v.conv(y, width, 1))
            x = x + y if x.shape == y.shape else y
    return v.classes(relu(v.norm(v.conv(x, 1280, 1))), 1000)


def _images(workload: str) -> tuple[Any, Any]:
    images, labels = data.classified(workload)
    dtype = jnp.bfloat16 if workload.endswith("_bf16") else jnp.float32
    return jnp.asarray(images.transpose(0, 2, 3, 1), dtype), labels


def train(workload: str, network: Callable[..., Any]) -> Run:
    rate = sizes.RATE[workload]
    method = optax.adam(rate) if workload == "lenet_train" else optax.sgd(rate, momentum=0.9)

    def loss_of(s: Scope, x: Any, y: Any) -> Any:
        return cross_entropy(network(s, x, True).astype(jnp.float32), y)

    return training(loss_of, method, [_images(workload)])


def infer(workload: str, network: Callable[..., Any]) -> Run:
    return inference(lambda s, x: network(s, x, False), _images(workload)[0])


TRAINED = {
    "lenet_train": lenet,
    "resnet50_train_fp32": resnet50,
    "resnet50_train_bf16": resnet50,
}
INFERRED = {
    "resnet50_infer_bs1": resnet50,
    "resnet50_infer_bs16": resnet50,
    "resnet50_infer_bs16_bf16": resnet50,
    "mobilenet_v2_infer_bs1": mobilenet_v2,
}
MAKERS = {w: partial(train, w, n) for w, n in TRAINED.items()} | {
    w: partial(infer, w, n) for w, n in INFERRED.items()
}
