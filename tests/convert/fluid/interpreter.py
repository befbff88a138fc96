"""Fluid's inference operators of Baidu's LAC in plain NumPy, a sentence at a time.

Written from Fluid's definitions, apart from noria's importer, ops and kernels: what the imported
models are compared with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noria.convert.fluid.parameters import read_parameter
from noria.convert.messages import read_message, schema


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Interpreter:
    """A folder with `__model__` and parameter files, run operator by operator."""

    def __init__(self, folder: Path) -> None:
        self.block = read_message(schema("fluid").ProgramDesc(), folder / "__model__").blocks[0]
        names = [v.name for v in self.block.vars if v.persistable and v.type.type == 7]
        self.parameters = {n: read_parameter(folder / n) for n in names}

    def run(self, **feeds: np.ndarray) -> np.ndarray:
        """The result for one sentence, without rows: feeds are [T, 1]."""
        values: dict[str, Any] = {**self.parameters, **feeds}
        for op in self.block.ops:
            ins = {s.parameter: [values.get(n) for n in s.arguments] for s in op.inputs}
            attrs = {a.name: _attribute(a) for a in op.attrs}
            if op.type == "fetch":
                return values[op.inputs[0].arguments[0]]
            if op.type != "feed":
                for slot, value in getattr(self, op.type)(ins, attrs).items():
                    name = next(s.arguments[0] for s in op.outputs if s.parameter == slot)
                    values[name] = value
        raise AssertionError("nothing is fetched")

    def lookup_table(self, ins, attrs):
        return {"Out": ins["W"][0][ins["Ids"][0][:, 0]]}

    def mul(self, ins, attrs):
        return {"Out": ins["X"][0] @ ins["Y"][0]}

    def elementwise_add(self, ins, attrs):
        return {"Out": ins["X"][0] + ins["Y"][0]}

    def concat(self, ins, attrs):
        return {"Out": np.concatenate(ins["X"], axis=attrs["axis"])}

    def scale(self, ins, attrs):
        assert attrs["scale"] == 1 and attrs["bias"] == 0
        return {"Out": ins["X"][0]}

    def relu(self, ins, attrs):
        return {"Out": np.maximum(ins["X"][0], 0)}

    def dropout(self, ins, attrs):
        upscaled = attrs.get("dropout_implementation") == "upscale_in_train"
        return {"Out": ins["X"][0] * np.float32(1 if upscaled else 1 - attrs["dropout_prob"])}

    def softmax(self, ins, attrs):
        e = np.exp(ins["X"][0] - ins["X"][0].max(-1, keepdims=True))
        return {"Out": e / e.sum(-1, keepdims=True)}

    def arg_max(self, ins, attrs):
        return {"Out": ins["X"][0].argmax(attrs["axis"])}

    def lod_reset(self, ins, attrs):
        return {"Out": ins["X"][0]}

    def gru(self, ins, attrs):
        """h = (1 - u) h + u n, the reset before the product; weights [H, 2H], then [H, H]."""
        x, weight = ins["Input"][0] + ins["Bias"][0], ins["Weight"][0]
        size = weight.shape[0]
        gates = weight.ravel()[: 2 * size * size].reshape(size, 2 * size)
        new = weight.ravel()[2 * size * size :].reshape(size, size)
        h, out = np.zeros(size, np.float32), np.zeros((len(x), size), np.float32)
        for t in range(len(x))[:: -1 if attrs["is_reverse"] else 1]:
            u, r = np.split(sigmoid(x[t, : 2 * size] + h @ gates), 2)
            n = np.tanh(x[t, 2 * size :] + (r * h) @ new)
            h = u * h + (1 - u) * n if attrs.get("origin_mode") else (1 - u) * h + u * n
            out[t] = h
        return {"Hidden": out}

    def lstm(self, ins, attrs):
        """Gates candidate, input, forget, output; peepholes ic, fc, oc behind the bias."""
        x, weight, bias = ins["Input"][0], ins["Weight"][0], ins["Bias"][0][0]
        size = weight.shape[0]
        peep = np.zeros((3, size), np.float32)
        if attrs["use_peepholes"]:
            peep = bias[4 * size :].reshape(3, size)
        h, c = np.zeros(size, np.float32), np.zeros(size, np.float32)
        out = np.zeros((len(x), size), np.float32)
        for t in range(len(x))[:: -1 if attrs["is_reverse"] else 1]:
            a, i, f, o = np.split(x[t] + bias[: 4 * size] + h @ weight, 4)
            i, f = sigmoid(i + c * peep[0]), sigmoid(f + c * peep[1])
            c = np.tanh(a) * i + c * f
            h = sigmoid(o + c * peep[2]) * np.tanh(c)
            out[t] = h
        return {"Hidden": out}

    def crf_decoding(self, ins, attrs):
        """Rows of the transition: start, stop, then [from, to]."""
        emission, transition = ins["Emission"][0], ins["Transition"][0]
        start, stop, pairs = transition[0], transition[1], transition[2:]
        best, came = start + emission[0], []
        for row in emission[1:]:
            ways = best[:, None] + pairs
            came.append(ways.argmax(0))
            best = ways.max(0) + row
        path = [int((best + stop).argmax())]
        for back in reversed(came):
            path.append(int(back[path[-1]]))
        return {"ViterbiPath": np.array(path[::-1])[:, None]}


def _attribute(attr: Any) -> Any:
    kinds = {0: "i", 1: "f", 2: "s", 6: "b", 9: "l"}
    value = getattr(attr, kinds[attr.type]) if attr.type in kinds else None
    return value.decode() if isinstance(value, bytes) else value
