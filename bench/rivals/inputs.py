"""The inputs of the networks for inference, by the names they have in the ONNX files."""

from __future__ import annotations

import numpy as np

from bench import data, sizes


def of(workload: str) -> dict[str, np.ndarray]:
    """Input name -> array."""
    if workload == "tiny_mlp_latency":
        return {"x": data.vectors(1, sizes.TINY[0])}
    if workload == "deepfm_latency":
        clicks = data.clicks(1)
        return {"ids": clicks.ids, "dense": clicks.dense}
    if workload == "bert_base_infer_bs1":
        ids = data.tokens(1, sizes.BERT.time, sizes.BERT.words).ids
        return {"ids": ids, "types": np.zeros_like(ids)}
    return {"image": data.classified(workload)[0]}
