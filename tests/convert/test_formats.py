"""Formats told from files."""

from pathlib import Path

import numpy as np
import pytest

import noria
from noria import ops
from noria.convert.formats import FORMATS, Wishes, format_of, read_model
from noria.convert.onnx.writer import save as save_onnx
from noria.core.errors import ArgumentError, MissingError, ShapeError
from noria.data.packages import LAC, package_folder


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / n for n in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return paths


@pytest.mark.parametrize(
    "files, given, name",
    [
        (["m.onnx"], ["m.onnx"], "onnx"),
        (["m.noria"], ["m.noria"], "noria"),
        (["m/program.json"], ["m"], "noria"),
        (["m/__model__", "m/w"], ["m"], "fluid"),
        (["m/a.pdmodel"], ["m"], "fluid"),
        (["a.pdmodel"], ["a.pdmodel"], "fluid"),
        (["n.prototxt", "n.caffemodel"], ["n.caffemodel", "n.prototxt"], "caffe"),
        (["n.prototxt"], ["n.prototxt"], "caffe"),
        (["init_net.pb", "predict_net.pb"], ["predict_net.pb", "init_net.pb"], "caffe2"),
        (["m/init_net.pb", "m/predict_net.pb"], ["m"], "caffe2"),
    ],
)
def test_the_format_is_told_from_the_files(files, given, name, tmp_path):
    touch(tmp_path, *files)
    paths = [tmp_path / g for g in given]
    assert format_of(paths) == name and name in FORMATS


def test_files_of_no_format_and_files_that_are_not_there(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        format_of([tmp_path / "m.onnx"])
    with pytest.raises(ArgumentError, match="of no known format") as caught:
        format_of(touch(tmp_path, "m.txt"))
    assert "MODEL.onnx" in caught.value.expected
    with pytest.raises(MissingError, match="no format is called 'onx'"):
        read_model(touch(tmp_path, "m.onnx"), kind="onx")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    program = noria.trace(lambda x: {"y": ops.relu(x) * 2.0}, x=noria.spec("N", "T"))
    save_onnx(program, tmp_path / "m.onnx", {})
    return tmp_path / "m.onnx"


def test_shapes_fix_the_sizes_of_an_onnx_model(small):
    program, state = read_model([small], Wishes(shapes={"x": ["N", 3]}))
    assert str(program.inputs["x"]) == "float32[N, 3]" and state == {}
    got = noria.Predictor(program, state).run({"x": np.ones((2, 3), np.float32)})
    assert got["y"].tolist() == [[2, 2, 2]] * 2


@pytest.mark.parametrize("shape", [["N"], ["N", "M"]])
def test_shapes_that_do_not_fit_are_errors(shape, small):
    with pytest.raises(ShapeError):
        read_model([small], Wishes(shapes={"x": shape}))
    with pytest.raises(MissingError, match="no input 'z'"):
        read_model([small], Wishes(shapes={"z": [1]}))


def test_a_saved_program_takes_no_wishes(tmp_path):
    program = noria.trace(lambda x: {"y": ops.relu(x)}, x=noria.spec("N"))
    noria.save(program, tmp_path / "m.noria", {})
    assert str(read_model([tmp_path / "m.noria"])[0]) == str(program)
    with pytest.raises(ArgumentError, match="takes no shapes"):
        read_model([tmp_path / "m.noria"], Wishes(shapes={"x": [1]}))


def test_a_caffe2_model_is_two_nets(tmp_path):
    touch(tmp_path, "m/init_net.pb")
    with pytest.raises(MissingError, match="two nets"):
        read_model([tmp_path / "m"])


def test_a_tagger_of_fluid_becomes_onnx(tmp_path):
    """Baidu's LAC: ragged texts, four GRUs, the best path of a random field."""
    ort = pytest.importorskip("onnxruntime")
    try:
        folder = package_folder(LAC, "LAC/lac_model/model")
    except MissingError as error:
        pytest.skip(f"{LAC} could not be had: {error.got}")
    program, state = read_model([folder])
    save_onnx(program, tmp_path / "m.onnx", state)
    words = np.random.default_rng(0).integers(0, 20_000, (17, 1))
    feeds = {"words": words, "words.row_splits": np.array([0, 9, 9, 10, 17])}
    want = noria.Predictor(program, state).run(feeds)
    session = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    got = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)
