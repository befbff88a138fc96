"""Models of the zoo with weights that others trained: `pretrained("mobilenet_v2", "weights.pth")`.

How large a model is (classes, width, layers) is read from the shapes of its weights.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.convert.torch_state import fit, read, renamed
from noria.core.errors import FormatError, MissingError, nearest
from noria.ir.program import Program
from noria.ir.trace import spec, trace
from noria.nn.module import Module
from noria.passes.for_test import for_test
from noria.zoo.bert import Bert
from noria.zoo.mobilenet import MobileNetV2
from noria.zoo.resnet import BasicBlock, Bottleneck, ResNet

Arrays = Mapping[str, np.ndarray]
Rename = Mapping[str, str] | Callable[[str], str | None] | None


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A model of the zoo.

    make:    the module these weights are of; program: its Program
    rename:  names in the files that are usual for it -> names in the zoo
    """

    about: str
    make: Callable[[Arrays], Module]
    program: Callable[[Module, str], Program]
    rename: Callable[[str], str | None] | None = None


def _size(weights: Arrays, name: str, axis: int = 0) -> int:
    if name not in weights or weights[name].ndim <= axis:
        raise FormatError(
            f"these weights are of another model: there is no '{name}'",
            got=", ".join(list(weights)[:5]),
            hint=nearest(name, weights),
        )
    return int(weights[name].shape[axis])


def _images(model: Module, name: str) -> Program:
    image = spec("N", 3, "H", "W")
    return for_test(trace(lambda image: {"logits": model(image)}, name=name, image=image))


def _resnet(blocks: tuple[int, ...], block: Any) -> Callable[[Arrays], Module]:
    return lambda weights: ResNet(blocks, _size(weights, "fc.weight"), block)


def _mobilenet(weights: Arrays) -> Module:
    width = _size(weights, "features.0.0.weight") / 32
    return MobileNetV2(_size(weights, "classifier.1.weight"), width)


HEAD = 64  # the size of a head in every published BERT


def _bert(weights: Arrays) -> Module:
    layers = {m[1] for n in weights if (m := re.match(r"encoder\.layer\.(\d+)\.", n))}
    size = _size(weights, "embeddings.word_embeddings.weight", 1)
    return Bert(
        _size(weights, "embeddings.word_embeddings.weight"),
        _size(weights, "embeddings.position_embeddings.weight"),
        _size(weights, "embeddings.token_type_embeddings.weight"),
        len(layers),
        size,
        max(size // HEAD, 1),
        _size(weights, "encoder.layer.0.intermediate.dense.weight"),
    )


def _bert_program(model: Module, name: str) -> Program:
    def encode(ids: Any, types: Any, mask: Any) -> dict[str, Any]:
        hidden, pooled = model(ids, types, mask)
        return {"hidden": hidden, "pooled": pooled}

    words = spec("N", "T", dtype="int64")
    mask = spec("N", "T", dtype="bool")
    return for_test(trace(encode, name=name, ids=words, types=words, mask=mask))


def _bert_name(name: str) -> str | None:
    """Without the prefix of a model for a task and its head; LayerNorm's names of 2018."""
    if name.startswith(("cls.", "classifier.", "qa_outputs.")) or name.endswith("position_ids"):
        return None
    name = name.removeprefix("bert.")
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")


MODELS: Mapping[str, Pretrained] = {
    "resnet18": Pretrained("ResNet-18", _resnet((2, 2, 2, 2), BasicBlock), _images),
    "resnet34": Pretrained("ResNet-34", _resnet((3, 4, 6, 3), BasicBlock), _images),
    "resnet50": Pretrained("ResNet-50", _resnet((3, 4, 6, 3), Bottleneck), _images),
    "resnet101": Pretrained("ResNet-101", _resnet((3, 4, 23, 3), Bottleneck), _images),
    "resnet152": Pretrained("ResNet-152", _resnet((3, 8, 36, 3), Bottleneck), _images),
    "mobilenet_v2": Pretrained("MobileNetV2", _mobilenet, _images),
    "bert": Pretrained("BERT, of any size", _bert, _bert_program, _bert_name),
}


def pretrained(
    name: str,
    path: str | os.PathLike[str],
    *,
    rename: Rename = None,
    part: str | None = None,
    strict: bool = True,
) -> tuple[Program, dict[str, np.ndarray]]:
    """(Program, state) of a model of the zoo with the weights of a .pth or .safetensors file.

    rename, strict: as for `torch_state.fit`; part: as for `torch_state.read`
    Raises MissingError for an unknown model, FormatError for weights of another one, and what
    those two functions raise.
    """
    if name not in MODELS:
        raise MissingError(f"no model of the zoo is called '{name}'", hint=nearest(name, MODELS))
    entry = MODELS[name]
    weights = renamed(read(path, part), rename or entry.rename)
    program = entry.program(entry.make(weights), name)
    return program, fit(program.state, weights, strict=strict)
