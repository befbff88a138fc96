"""Mixed precision on whole networks: gradients, loss curves, every kernel beside its reference."""

from __future__ import annotations

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.program import Program
from noria.ir.trace import spec, trace
from noria.nn.module import Module
from noria.ops.precision import PRODUCTS
from noria.optim.optimizer import SGD, Adam
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from noria.train.trainer import Trainer
from noria.zoo.digits import classify
from noria.zoo.lenet import LeNet
from noria.zoo.recipes import recipe
from noria.zoo.resnet import ResNet
from noria.zoo.rnn_lm import RNNLM, predict_next
from noria.zoo.transformer import TransformerLM, language_model

NETWORKS = {
    "lenet": (LeNet, (1, 28, 28)),
    "resnet": (lambda: ResNet((1, 1, 1, 1), classes=5), (3, 64, 64)),
}


def training(model: Module, image: tuple[int, ...], rate: float = 0.1) -> Program:
    forward = trace(classify(model), image=spec("N", *image), label=spec("N", dtype="int64"))
    return SGD(rate).minimize(forward)


def feeds_of(image: tuple[int, ...], n: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"image": rng.standard_normal((n, *image), np.float32), "label": np.arange(n) % 5}


def steps_of(
    program: Program, feeds: dict[str, np.ndarray], precision: str
) -> dict[str, np.ndarray]:
    """What one step of SGD subtracts from each parameter: its gradient times the rate."""
    executor = Executor(program, seed=1, precision=precision)
    before = executor.scope.state()
    executor.run(feeds, [])
    after = executor.scope.state()
    return {n: before[n] - after[n] for n, s in program.state.items() if s.trainable}


@pytest.mark.parametrize(("network", "near"), [("lenet", 0.99), ("resnet", 0.9)])
def test_gradients_point_where_those_of_float32_do(network: str, near: float) -> None:
    """Batch norm over few images magnifies rounding: PyTorch's autocast comes to 0.935 there."""
    make, image = NETWORKS[network]
    program, feeds = training(make(), image), feeds_of(image)
    wide, half = (steps_of(program, feeds, p) for p in ("float32", "bf16"))
    whole = [np.concatenate([g.ravel() for g in gs.values()]) for gs in (wide, half)]
    cosine = whole[0] @ whole[1] / np.linalg.norm(whole[0]) / np.linalg.norm(whole[1])
    assert near < cosine < 1 - 1e-9  # near, and not the same arithmetic


@pytest.mark.parametrize("network", NETWORKS)
def test_every_kernel_agrees_with_the_reference(network: str, fast_kernels: None) -> None:
    make, image = NETWORKS[network]
    program, feeds = training(make(), image), feeds_of(image, 2)
    with flags.set(validate=True):
        executor = Executor(program, seed=1, precision="bf16")
        for _ in range(2):
            assert np.isfinite(executor.run(feeds, ["loss"])["loss"])
    state = executor.scope.state()
    with flags.set(validate=True):
        predictor = Predictor(for_test(program, ["logits"]), state, precision="bf16")
        assert predictor(image=feeds["image"]).dtype == np.float32


def test_activations_and_their_gradients_are_halves() -> None:
    """Between the convolutions of a residual network nothing as large as they is float32."""
    make, image = NETWORKS["resnet"]
    plan = Executor(training(make(), image), precision="bf16").plan(["loss"])
    last = 2048  # channels of the mean over all places, which is float32
    for step in plan.steps:
        for v in step.op.outputs:
            if v.ndim == 4 and v.dtype == "float32" and "N" in str(v.shape[0]):
                assert v.shape[1] in (3, last), f"{v.name}: {v}"


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_are_learned_as_in_float32(seed: int) -> None:
    found = {}
    for precision in ("float32", "bf16"):
        chosen = recipe("digits")
        reader, test = chosen.readers(chosen.batch_size, seed, None)
        trainer = Trainer(
            chosen.program(6, len(reader)),
            reader,
            evaluation=test,
            seed=seed,
            precision=precision,
            progress=False,
        )
        found[precision] = trainer.fit(6).rows
    for wide, half in zip(*found.values(), strict=True):
        assert abs(wide["train_loss"] - half["train_loss"]) < 0.05 + 0.2 * wide["train_loss"]
    accuracy = [rows[-1]["accuracy"] for rows in found.values()]
    assert min(accuracy) > 0.98 and abs(accuracy[0] - accuracy[1]) < 0.012


def small_decoder() -> Program:
    model = TransformerLM(words=23, positions=16, layers=2, size=32, heads=2, inner=64)
    ids = spec("N", "T", dtype="int64")
    return Adam(3e-3).minimize(trace(language_model(model), ids=ids, targets=ids))


def texts(rng: np.random.Generator, n: int = 16) -> dict[str, np.ndarray]:
    """Of each word the next one follows: three times as large and one, modulo 23."""
    words = [rng.integers(0, 23, n)]
    for _ in range(16):
        words.append((3 * words[-1] + 1) % 23)
    text = np.stack(words, 1)
    return {"ids": text[:, :-1], "targets": text[:, 1:]}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_decoder_learns_as_in_float32(seed: int) -> None:
    program, curves = small_decoder(), {}
    for precision in ("float32", "bf16"):
        rng = np.random.default_rng(seed)
        run = Executor(program, seed=seed, precision=precision)
        curves[precision] = np.array([run.run(texts(rng))["loss"] for _ in range(120)])
    wide, half = curves["float32"], curves["bf16"]
    assert wide[0] > 3 and max(wide[-10:].mean(), half[-10:].mean()) < 0.1
    assert np.abs(wide - half).max() < 0.1
    assert not np.array_equal(wide, half)


def small_lstm() -> Program:
    model = RNNLM(words=23, width=65, layers=2)
    ids = spec("N", "T", dtype="int64")
    return Adam(0.01).minimize(trace(predict_next(model), ids=ids, targets=ids))


def sums(rng: np.random.Generator, n: int = 16) -> dict[str, np.ndarray]:
    """Each word is the sum of the two before, modulo 23: layers must remember what is not there."""
    words = [rng.integers(0, 23, n) for _ in range(2)]
    for _ in range(15):
        words.append((words[-1] + words[-2]) % 23)
    text = np.stack(words, 1)
    return {"ids": text[:, :-1], "targets": text[:, 1:]}


@pytest.mark.parametrize("seed", [0, 1])
def test_an_lstm_learns_as_in_float32(seed: int) -> None:
    """The second word is chance: a loss of log(23) / 16 is all that can be learned."""
    program, curves = small_lstm(), {}
    for precision in ("float32", "bf16"):
        rng = np.random.default_rng(seed)
        run = Executor(program, seed=seed, precision=precision)
        curves[precision] = np.array([run.run(sums(rng))["loss"] for _ in range(250)])
    wide, half = curves["float32"], curves["bf16"]
    assert wide[0] > 3 and max(wide[-10:].mean(), half[-10:].mean()) < np.log(23) / 16 + 0.1
    assert np.abs(wide - half).max() < 0.05
    assert not np.array_equal(wide, half)


def test_recurrences_run_on_halves(fast_kernels: None) -> None:
    with flags.set(validate=True):
        run = Executor(small_lstm(), precision="bf16")
        assert np.isfinite(run.run(sums(np.random.default_rng(0)))["loss"])
    found = [s for s in run.plan().steps if s.op.type in ("lstm", "lstm_grad")]
    assert len(found) == 4
    for step in found:
        assert step.op.outputs[0].dtype == "bfloat16"  # h, or the gradient of gates
        assert step.kernel is not None, step.op


def test_products_and_attention_of_a_decoder_run_on_halves(fast_kernels: None) -> None:
    with flags.set(validate=True):
        run = Executor(small_decoder(), precision="bf16")
        assert np.isfinite(run.run(texts(np.random.default_rng(0)))["loss"])
    for step in run.plan().steps:
        if step.op.type in PRODUCTS:
            taken = [step.op.operands[i].dtype for i in PRODUCTS[step.op.type]]
            assert set(taken) == {"bfloat16"}, step.op
            assert step.kernel is not None, step.op
