"""What all families share in JAX: parameters by name, training steps and inference calls, jitted
whole, with donated buffers; optimisers are Optax's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Run = Callable[[int], None]
Arrays = dict[str, Any]
Network = Callable[..., Any]


class Scope:
    """Gives a network its parameters and statistics by name; without any it records their shapes.

    params: learned; stats: what batch norm keeps; new: the statistics after this step
    """

    def __init__(self, params: Arrays | None = None, stats: Arrays | None = None) -> None:
        self.params, self.stats, self.new = params, stats or {}, dict[str, Any]()
        self.shapes: dict[str, tuple[int, ...]] = {}

    def param(self, name: str, *shape: int) -> Any:
        if self.params is None:
            self.shapes[name] = shape
            return jnp.zeros(shape, jnp.float32)
        return self.params[name]

    def linear(self, name: str, x: Any, out: int) -> Any:
        w = self.param(f"{name}.w", x.shape[-1], out).astype(x.dtype)
        return x @ w + self.param(f"{name}.b", out).astype(x.dtype)

    def embedding(self, name: str, ids: Any, rows: int, width: int) -> Any:
        return jnp.take(self.param(name, rows, width), ids, axis=0, mode="clip")


def initial(network: Network, *inputs: Any) -> Arrays:
    """Small normal numbers for every parameter of a network."""
    scope = Scope()
    jax.eval_shape(lambda *x: network(scope, *x), *inputs)
    rng = np.random.default_rng(0)
    return {
        name: jnp.asarray(rng.standard_normal(shape, np.float32) / np.sqrt(max(shape[0], 1)))
        for name, shape in scope.shapes.items()
    }


def training(
    loss_of: Network,
    optimizer: optax.GradientTransformation,
    batches: Sequence[tuple[Any, ...]],
) -> Run:
    """Steps on batches taken in turn; the loss is read once at the end of a run.

    loss_of: (scope, *batch) -> scalar
    """
    turn = itertools.cycle([tuple(map(jnp.asarray, b)) for b in batches])
    params = initial(loss_of, *batches[0])
    state: list[Any] = [params, optimizer.init(params), {}]

    def loss_and_stats(params: Arrays, stats: Arrays, *batch: Any) -> tuple[Any, Arrays]:
        scope = Scope(params, stats)
        loss = loss_of(scope, *batch)
        return loss, scope.new

    def step(params: Arrays, memory: Any, stats: Arrays, *batch: Any) -> tuple[Any, ...]:
        tell = jax.value_and_grad(loss_and_stats, has_aux=True)
        (loss, stats), grads = tell(params, stats, *batch)
        updates, memory = optimizer.update(grads, memory, params)
        return optax.apply_updates(params, updates), memory, stats, loss

    state[2] = jax.eval_shape(lambda *b: loss_and_stats(params, {}, *b)[1], *next(turn))
    state[2] = {n: jnp.ones(s.shape, s.dtype) for n, s in state[2].items()}
    jitted = jax.jit(step, donate_argnums=(0, 1, 2))

    def run(steps: int) -> None:
        for _ in range(steps):
            *state[:], loss = jitted(*state, *next(turn))
        assert np.isfinite(loss)
        jax.block_until_ready(state)

    return run


def inference(network: Network, *inputs: Any) -> Run:
    """Calls on arrays that are there."""
    call, arrays = predictor(network, *inputs), tuple(map(jnp.asarray, inputs))

    def run(steps: int) -> None:
        for _ in range(steps):
            out = call(*arrays)
        out.block_until_ready()

    return run


def predictor(network: Network, *inputs: Any) -> Callable[..., Any]:
    """The jitted network on its parameters."""
    params = initial(network, *inputs)
    recorded = Scope(params)
    jax.eval_shape(lambda *x: network(recorded, *x), *inputs)
    stats = {n: jnp.ones(s.shape, jnp.float32) for n, s in recorded.new.items()}

    @jax.jit
    def call(params: Arrays, stats: Arrays, *x: Any) -> Any:
        return network(Scope(params, stats), *x)

    return lambda *x: call(params, stats, *x)
