import numpy as np
import pytest
from scipy import special

from noria.ir.trace import spec, trace
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope
from noria.zoo.bert import Bert


def executor(program, module):
    """An Executor that starts from the module's numbers."""
    return Executor(program, Scope().initialize(program, values=module.state()))


def small():
    model = Bert(words=30, positions=16, types=2, layers=2, size=12, heads=3, inner=20)
    rng = np.random.default_rng(0)
    state = {n: rng.standard_normal(p.shape) * 0.4 for n, p in model.parameters().items()}
    return model.load(state)


def formula(p, ids, types, mask):
    """The paper, position by position where it matters; p: parameters by Hugging Face's names."""

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * p[f"{name}.weight"] + p[f"{name}.bias"]

    def dense(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    tables = [p[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")]
    x = tables[0][ids] + tables[1][: ids.shape[1]] + tables[2][types]
    x = norm(x, "embeddings.LayerNorm")
    for i in range(2):
        at = f"encoder.layer.{i}."
        q, k, v = (dense(x, f"{at}attention.self.{n}") for n in ("query", "key", "value"))
        heads = []
        for h in range(3):
            part = slice(4 * h, 4 * h + 4)
            score = q[..., part] @ k[..., part].swapaxes(-1, -2) / 2
            score = np.where(mask[:, None], score, -np.inf)
            heads.append(special.softmax(score, -1) @ v[..., part])
        y = dense(np.concatenate(heads, -1), f"{at}attention.output.dense")
        x = norm(x + y, f"{at}attention.output.LayerNorm")
        y = dense(x, f"{at}intermediate.dense")
        y = dense(y * special.ndtr(y), f"{at}output.dense")
        x = norm(x + y, f"{at}output.LayerNorm")
    return x, np.tanh(dense(x[:, 0], "pooler.dense"))


@pytest.mark.parametrize("padded", [False, True])
def test_it_computes_what_the_paper_says(padded):
    model, rng = small(), np.random.default_rng(1)
    ids, types = rng.integers(0, 30, (2, 9)), rng.integers(0, 2, (2, 9))
    mask = np.ones((2, 9), bool)
    if padded:
        mask[1, 6:] = False
    want = formula(model.state(), ids, types, mask)
    given = {"ids": ids, "types": types} | ({"mask": mask} if padded else {})
    for got, expected in zip(model(**given), want, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    specs = {n: spec("N", "T", dtype=str(a.dtype)) for n, a in given.items()}
    program = trace(lambda **kw: dict(zip(("x", "pooled"), model(**kw), strict=True)), **specs)
    got = executor(program, model).run(given)
    np.testing.assert_allclose(got["x"], want[0], atol=1e-4)
    np.testing.assert_allclose(got["pooled"], want[1], atol=1e-4)


def test_words_are_of_the_first_type_unless_told():
    model, ids = small(), np.random.default_rng(2).integers(0, 30, (1, 5))
    np.testing.assert_allclose(model(ids)[0], model(ids, np.zeros_like(ids))[0], atol=1e-5)


def test_bert_base_has_the_parameters_of_hugging_face():
    shapes = {n: p.shape for n, p in Bert().parameters().items()}
    assert sum(np.prod(s) for s in shapes.values()) == 109_482_240
    assert shapes["encoder.layer.11.attention.self.query.weight"] == (768, 768)
    assert shapes["encoder.layer.0.intermediate.dense.weight"] == (3072, 768)
    assert len(shapes) == 5 + 12 * 16 + 2
