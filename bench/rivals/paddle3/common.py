"""What all families share in PaddlePaddle 3: training with a static graph where it is
faster, inference through
`paddle.inference` with oneDNN."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import inference as serving

from bench.workloads import THREADS

Run = Callable[[int], None]
paddle.set_device("cpu")
paddle.seed(0)


def static(model: Any) -> Any:
    """The module with its forward pass as a static graph."""
    return paddle.jit.to_static(model, full_graph=True)


def autocast(workload: str) -> AbstractContextManager[Any]:
    """bf16 where the workload says so, with float32 master weights."""
    if workload.endswith("_bf16"):
        return paddle.amp.auto_cast(level="O1", dtype="bfloat16")
    return nullcontext()


def training(
    loss_of: Callable[..., Any],
    optimizer: Any,
    batches: Sequence[tuple[Any, ...]],
) -> Run:
    """Steps on batches taken in turn; the loss is read once at the end of a run."""
    turn = itertools.cycle([tuple(map(paddle.to_tensor, b)) for b in batches])

    def run(steps: int) -> None:
        for _ in range(steps):
            loss = loss_of(*next(turn))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad(set_to_zero=False)
        assert np.isfinite(float(loss))

    return run


def predictor(model: Any, arrays: Sequence[np.ndarray], *, half: bool = False) -> Any:
    """A predictor of the saved model, its inputs filled."""
    model.eval()
    specs = [paddle.static.InputSpec(a.shape, str(a.dtype)) for a in arrays]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model")
        paddle.jit.save(model, path, input_spec=specs)
        made = serving.create_predictor(_config(path, half))
    for name, array in zip(made.get_input_names(), arrays, strict=True):
        made.get_input_handle(name).copy_from_cpu(array)
    return made


def _config(path: str, half: bool) -> Any:
    parameters = f"{path}.pdiparams"
    config = serving.Config(f"{path}.json", parameters)
    config.enable_onednn()
    config.set_cpu_math_library_num_threads(THREADS)
    config.switch_ir_optim(True)
    config.enable_new_ir(True)
    config.enable_new_executor(True)
    config.disable_glog_info()
    if half:
        config.enable_onednn_bfloat16()
    return config


def inference(model: Any, *arrays: np.ndarray, half: bool = False) -> Run:
    """Calls on inputs that are there."""
    made = predictor(model, arrays, half=half)

    def run(steps: int) -> None:
        for _ in range(steps):
            made.run()

    return run


def latency(model: Any, *arrays: np.ndarray) -> Run:
    """NumPy in, NumPy out."""
    made = predictor(model, arrays)
    inputs = [made.get_input_handle(n) for n in made.get_input_names()]
    output = made.get_output_handle(made.get_output_names()[0])

    def run(steps: int) -> None:
        for _ in range(steps):
            for handle, array in zip(inputs, arrays, strict=True):
                handle.copy_from_cpu(array)
            made.run()
            output.copy_to_cpu()

    return run
