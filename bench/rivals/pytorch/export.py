"""Write a network as an ONNX file: `python -m bench.rivals.pytorch.export NETWORK PATH`."""

from __future__ import annotations

import os
import sys

import torch
from torch import nn

from bench import sizes
from bench.rivals import inputs
from bench.rivals.exported import FILES
from bench.rivals.pytorch.attention import Bert
from bench.rivals.pytorch.dense import perceptron
from bench.rivals.pytorch.sparse import DeepFm
from bench.rivals.pytorch.vision_networks import mobilenet_v2, resnet50


def network(name: str) -> nn.Module:
    """The module behind a file's name."""
    if name.startswith("resnet50"):
        return resnet50()
    makers = {
        "mobilenet_v2_bs1": mobilenet_v2,
        "bert_base_bs1": lambda: Bert(sizes.BERT),
        "tiny_mlp": lambda: perceptron(sizes.TINY),
        "deepfm": lambda: DeepFm(sizes.DEEPFM),
    }
    return makers[name]()


def main() -> None:
    name, path = sys.argv[1:]
    workload = next(w for w, file in FILES.items() if file == name)
    feeds = inputs.of(workload)
    given = tuple(torch.from_numpy(a) for a in feeds.values())
    draft = f"{path}.{os.getpid()}"
    torch.onnx.export(
        network(name).eval(),
        given,
        draft,
        dynamo=True,
        optimize=True,
        external_data=False,
        input_names=list(feeds),
        output_names=["out"],
    )
    os.replace(draft, path)


if __name__ == "__main__":
    main()
