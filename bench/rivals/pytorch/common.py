"""What all families share: training steps and inference calls, eager or compiled."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from bench.workloads import THREADS

Run = Callable[[int], None]
LAST = torch.channels_last

torch.set_num_threads(THREADS)
torch.manual_seed(0)


def is_compiled() -> bool:
    """Whether this process is the engine torch_compiled."""
    return os.environ.get("BENCH_ENGINE") == "torch_compiled"


def compiled(function: Any) -> Any:
    """The function or module, compiled for its shapes where this process is to compile."""
    return torch.compile(function, dynamic=False) if is_compiled() else function


def autocast(workload: str) -> AbstractContextManager[Any]:
    """bf16 where the workload says so: float32 master weights, statistics and loss."""
    half = workload.endswith("_bf16")
    return torch.autocast("cpu", torch.bfloat16) if half else nullcontext()


def training(
    loss_of: Callable[..., torch.Tensor],
    optimizer: torch.optim.Optimizer,
    batches: Sequence[tuple[Any, ...]],
    *,
    clip: tuple[nn.Module, float] | None = None,
) -> Run:
    """Steps on batches taken in turn; the loss is read once at the end of a run."""
    turn = itertools.cycle(batches)
    loss_of = compiled(loss_of)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(*next(turn))
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(clip[0].parameters(), clip[1], foreach=True)
            optimizer.step()
        assert torch.isfinite(loss)

    return run


def inference(model: nn.Module, *inputs: torch.Tensor) -> Run:
    """Calls on tensors that are there."""
    model = predicting(model)

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                model(*inputs)

    return run


def predicting(model: nn.Module) -> Any:
    """For inference: compiled with weights frozen, which folds batch norm and packs weights."""
    if is_compiled():
        import torch._inductor.config as config

        config.freezing = True
    return compiled(model.eval())
