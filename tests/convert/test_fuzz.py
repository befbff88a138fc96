"""Damaged and hostile files, ten thousand of each format: a clear error or a model, nothing else.

Each case is a small sound file with some edits: bytes changed, cut out, repeated, swapped for
numbers that lie. Whatever comes of it, no other exception than a NoriaError may escape, no case may
take a second, and memory may not grow.
"""

from __future__ import annotations

import io
import pickle
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.convert import caffe, torch_state
from noria.convert.caffe.network import read_weights
from noria.convert.caffe2 import reader as caffe2
from noria.convert.fluid import parameters
from noria.convert.messages import schema
from noria.core.errors import NoriaError

CASES = 10_000
SECONDS = 1.0
GROWTH = 300 << 20  # bytes; what all cases of a format together may leave behind

# ---- edits -------------------------------------------------------------------------------------

LIES = [
    b"\xff\xff\xff\xff\x0f",  # a varint of 2^32 - 1: a length that lies
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x40",  # 2^62
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # -1
    b"\x00",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xff" * 8,
]
PLACE = st.floats(0, 1, exclude_max=True)
EDIT = st.one_of(
    st.tuples(st.just("set"), PLACE, st.integers(0, 255)),
    st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 40)),
    st.tuples(st.just("stop"), PLACE, st.just(0)),
    st.tuples(st.just("repeat"), PLACE, st.integers(1, 60)),
    st.tuples(st.just("lie"), PLACE, st.integers(0, len(LIES) - 1)),
    st.tuples(st.just("insert"), PLACE, st.binary(min_size=1, max_size=8)),
)


def edited(data: bytes, edits: list[Any]) -> bytes:
    """The data with edits applied one after the other."""
    out = bytearray(data)
    for kind, place, what in edits:
        at = int(place * len(out))
        if not out:
            break
        if kind == "set":
            out[at] = what
        elif kind == "flip":
            out[at] ^= 1 << what
        elif kind == "cut":
            del out[at : at + what]
        elif kind == "stop":
            del out[at:]
        elif kind == "repeat":
            out[at:at] = out[at : at + what] * 3
        elif kind == "lie":
            out[at : at + 1] = LIES[what]
        else:
            out[at:at] = what
    return bytes(out)


def seconds(read: Callable[[bytes], Any], data: bytes) -> float:
    """What reading takes, whether it ends well or in an error that says something."""
    start = time.perf_counter()
    try:
        read(data)
    except NoriaError as error:
        assert str(error)
    return time.perf_counter() - start


def survives(read: Callable[[bytes], Any], data: bytes) -> None:
    """Runs 10,000 edited copies through a reader."""
    read(data)  # the sound file is read
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    slowest = 0.0

    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(EDIT, min_size=1, max_size=6))
    def case(edits: list[Any]) -> None:
        nonlocal slowest
        damaged = edited(data, edits)
        took = seconds(read, damaged)
        if took > SECONDS:  # a busy machine, or garbage of other tests: twice is no accident
            took = min(took, seconds(read, damaged))
        slowest = max(slowest, took)

    case()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    assert slowest < SECONDS, f"a case took {slowest:.2f} s"
    assert grown < GROWTH, f"memory grew by {grown >> 20} MiB"


# ---- sound files -------------------------------------------------------------------------------


def caffe2_net() -> bytes:
    net = schema("caffe2").NetDef(name="n", external_input=["x"], external_output=["y"])
    op = net.op.add(type="Clip", input=["x"], output=["h"])
    op.arg.add(name="min", f=-1.0)
    op.arg.add(name="max", f=1.0)
    net.op.add(type="Relu", input=["h"], output=["y"])
    return net.SerializeToString()


def torch_file() -> bytes:
    """A PyTorch zip of one float32 tensor [2, 2], written without PyTorch."""
    body = (
        b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02"
        b"((X\x07\x00\x00\x00storageq\x03ctorch\nFloatStorage\nq\x04X\x01\x00\x00\x000q\x05"
        b"X\x03\x00\x00\x00cpuq\x06K\x04tq\x07QK\x00K\x02K\x02\x86q\x08K\x02K\x01\x86q\t\x89"
        b"ccollections\nOrderedDict\nq\n)Rq\x0btq\x0cRq\rs."
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("m/data.pkl", body)
        archive.writestr("m/data/0", np.arange(4, dtype="<f4").tobytes())
        archive.writestr("m/version", b"3\n")
    return out.getvalue()


# ---- the formats -------------------------------------------------------------------------------


def test_parameters_of_fluid(tmp_path: Path) -> None:
    file = tmp_path / "params"

    def read(data: bytes) -> None:
        file.write_bytes(data)
        parameters.read_combined(file, ["a", "b"])

    arrays = np.ones((2, 3), np.float32), np.arange(4)
    survives(read, b"".join(map(parameters.record, arrays)))


def test_nets_of_caffe2() -> None:
    survives(lambda data: caffe2.load(None, data, {"x": ("N", 2)}), caffe2_net())


def test_weights_of_pytorch(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"

    def read(data: bytes) -> None:
        file.write_bytes(data)
        torch_state.read(file)

    survives(read, torch_file())


CAFFE = """
name: "n"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "r" type: "Reshape" bottom: "p" top: "r" reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "q" type: "PriorBox" bottom: "p" bottom: "x" top: "q"
  prior_box_param { min_size: 4 max_size: 6 aspect_ratio: 2 } }
layer { name: "f" type: "InnerProduct" bottom: "r" top: "f" inner_product_param { num_output: 2 } }
layer { name: "s" type: "Softmax" bottom: "f" top: "s" }
"""


def caffe_weights() -> bytes:
    message = schema("caffe").NetParameter(name="n")
    shapes = {"c": [(2, 3, 3, 3), (2,)], "b": [(2,), (2,), (1,)], "f": [(2, 8), (2,)]}
    for name, blobs in shapes.items():
        layer = message.layer.add(name=name)
        for shape in blobs:
            blob = layer.blobs.add(data=[np.ones(shape, "<f4").tobytes()])
            blob.shape.dim.extend(shape)
    return message.SerializeToString()


def test_networks_of_caffe(tmp_path: Path) -> None:
    text, weights = tmp_path / "n.prototxt", tmp_path / "n.caffemodel"
    weights.write_bytes(caffe_weights())

    def read(data: bytes) -> None:
        text.write_bytes(data)
        caffe.load(text, weights)

    survives(read, CAFFE.encode())


def test_weights_of_caffe(tmp_path: Path) -> None:
    text, weights = tmp_path / "n.prototxt", tmp_path / "n.caffemodel"
    text.write_text(CAFFE)

    def read(data: bytes) -> None:
        weights.write_bytes(data)
        read_weights(weights)

    survives(read, caffe_weights())


class Evil:
    """What a pickle with code looks like."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    touched, file = tmp_path / "touched", tmp_path / "w.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"w": Evil(touched)}, protocol=2))
        archive.writestr("m/version", b"3\n")
    with pytest.raises(NoriaError):
        torch_state.read(file)
    file.write_bytes(pickle.dumps({"w": Evil(touched)}, protocol=2))
    with pytest.raises(NoriaError):
        torch_state.read(file)
    assert not touched.exists()
