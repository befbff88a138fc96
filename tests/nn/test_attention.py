"""Attention modules: the same numbers and gradients as PyTorch's."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.grad import append_backward
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.nn.attention import MultiheadAttention, TransformerEncoderLayer
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 5, 12)).astype(np.float32)
MEMORY = RNG.standard_normal((2, 7, 12)).astype(np.float32)
SEEN = np.tri(5, 5, 1, dtype=bool)


def filled(module):
    """The module with numbers that are nothing special."""
    state = {n: RNG.standard_normal(p.shape) * 0.3 for n, p in module.parameters().items()}
    return module.load(state)


def in_torch(module, make):
    """PyTorch's module with the same parameters."""
    torch = pytest.importorskip("torch")
    theirs = make(torch)
    state = {n: torch.tensor(np.asarray(a)) for n, a in module.state().items()}
    theirs.load_state_dict(state)  # strict: the names are the same
    return torch, theirs.eval()


def executor(program, module):
    """An Executor that starts from the module's numbers."""
    return Executor(program, Scope().initialize(program, values=module.state()))


def multihead(torch):
    return torch.nn.MultiheadAttention(12, 3, batch_first=True)


@pytest.mark.parametrize("mask", [None, SEEN, RNG.standard_normal((5, 5)).astype(np.float32)])
def test_self_attention_is_pytorchs(mask):
    ours = filled(MultiheadAttention(12, 3))
    torch, theirs = in_torch(ours, multihead)
    given = None if mask is None else torch.tensor(~mask if mask.dtype == bool else mask)
    x = torch.tensor(X)
    want = theirs(x, x, x, attn_mask=given, need_weights=False)[0].detach().numpy()
    np.testing.assert_allclose(ours(X, mask=mask), want, atol=1e-5)


def test_attention_to_something_else_is_pytorchs():
    ours = filled(MultiheadAttention(12, 3))
    torch, theirs = in_torch(ours, multihead)
    x, memory = torch.tensor(X), torch.tensor(MEMORY)
    want = theirs(x, memory, memory, need_weights=False)[0].detach().numpy()
    np.testing.assert_allclose(ours(X, MEMORY), want, atol=1e-5)
    np.testing.assert_allclose(ours(X, MEMORY, MEMORY), want, atol=1e-5)


def test_the_two_ways_through_the_weights_agree():
    module = filled(MultiheadAttention(12, 4, bias=False))
    assert module.in_proj_bias is None and module.out_proj.bias is None
    np.testing.assert_allclose(module(X, causal=True), module(X, X, X, causal=True), atol=1e-5)


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_layer_and_its_gradients_are_pytorchs(norm_first):
    ours = filled(TransformerEncoderLayer(12, 3, 20, activation="gelu", norm_first=norm_first))
    torch, theirs = in_torch(
        ours,
        lambda torch: torch.nn.TransformerEncoderLayer(
            12, 3, 20, 0.0, "gelu", batch_first=True, norm_first=norm_first
        ),
    )
    weight = RNG.standard_normal(X.shape).astype(np.float32)
    theirs.train()
    future = torch.tensor(~np.tri(5, dtype=bool))
    y = theirs(torch.tensor(X), src_mask=future)
    (y * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(ours(X, causal=True), y.detach().numpy(), atol=1e-5)

    def step(x):
        return {"loss": o.reduce_sum(o.mul(ours(x, causal=True), weight))}

    program, grads = append_backward(trace(step, x=spec("N", "T", 12)).copy(), "loss")
    program.outputs.update(grads)
    program.block.outputs = list(program.outputs.values())
    for run in (executor(program, ours).run, None):
        got = run({"x": X}) if run else run_program(program, {"x": X}, ours.state())[0]
        for name, parameter in theirs.named_parameters():
            want = parameter.grad.numpy()
            np.testing.assert_allclose(got[name], want, atol=2e-4, err_msg=name)


def test_dropout_is_of_what_the_parts_give():
    layer = TransformerEncoderLayer(12, 3, 20, dropout=0.5)
    program = trace(lambda x: layer(x), x=spec(2, 5, 12))
    assert sum(op.type == "dropout_mask" or "dropout" in op.type for op in program.operators) == 3


def test_what_does_not_divide_is_told():
    with pytest.raises(ArgumentError, match="divisible"):
        MultiheadAttention(12, 5)
    with pytest.raises(ArgumentError):
        MultiheadAttention(12, 0)
    with pytest.raises(ShapeError):
        MultiheadAttention(12, 3)(X[..., :11])
