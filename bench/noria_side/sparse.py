"""Networks over large tables in noria."""

from __future__ import annotations

from typing import Any

import noria
from bench import data, sizes
from bench.noria_side.common import Run, inference, int_spec, training
from noria import ops, optim
from noria.zoo.deepfm import DeepFM


def _model() -> DeepFM:
    s = sizes.DEEPFM
    return DeepFM(s.rows, s.width, fields=s.fields, dense=s.dense, hidden=s.mlp[1:-1])


def _inputs() -> dict[str, Any]:
    return {"ids": int_spec("N", sizes.DEEPFM.fields), "dense": noria.spec("N", sizes.DEEPFM.dense)}


def deepfm_train() -> Run:
    model = _model()

    def step(ids: Any, dense: Any, label: Any) -> dict[str, Any]:
        return {"loss": ops.bce_with_logits(model(ids, dense), label)}

    program = noria.trace(step, name="deepfm_train", label=noria.spec("N"), **_inputs())
    batches = [dict(zip(b._fields, b, strict=True)) for b in data.click_batches()]
    return training(optim.Adagrad(sizes.RATE["deepfm_train"]).minimize(program), batches)


def deepfm_latency() -> Run:
    model = _model()
    program = noria.trace(lambda ids, dense: model(ids, dense), name="deepfm", **_inputs())
    one = data.clicks(1)
    return inference(program, {"ids": one.ids, "dense": one.dense})


MAKERS = {"deepfm_train": deepfm_train, "deepfm_latency": deepfm_latency}
