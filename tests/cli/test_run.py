from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noria.cli.run import read_arrays
from noria.core.errors import FormatError
from noria.runtime.predictor import Predictor


def expected(model: Path, image: Path) -> np.ndarray:
    return Predictor.load(model, outputs=["logits"])(image=np.load(image).astype(np.float32))


@pytest.fixture
def label(tmp_path: Path) -> Path:
    path = tmp_path / "label.npy"
    np.save(path, np.array([0, 2], np.int32))
    return path


def test_outputs_are_printed(noria, model: Path, image: Path) -> None:
    ran = noria("run", model, "--input", image, "--fetch", "logits")
    assert (ran.code, ran.err) == (0, "")
    title, numbers = ran.out.split("\n", 1)
    assert title == "logits: float32[2, 3]"
    shown = np.array([float(n) for n in numbers.translate(str.maketrans("[]", "  ")).split()])
    np.testing.assert_allclose(shown, expected(model, image).ravel(), atol=1e-4)


def test_without_fetch_the_outputs_that_can_be_computed_are(
    noria, model: Path, image: Path, tmp_path: Path
) -> None:
    ran = noria("run", model, "--input", f"image={image}", "--output", tmp_path / "new" / "y.npz")
    assert ran.code == 0
    assert ran.out == "logits: float32[2, 3]\n"
    assert "loss is left out: it needs label too" in ran.err
    with np.load(tmp_path / "new" / "y.npz") as saved:
        assert saved.files == ["logits"]
        np.testing.assert_array_equal(saved["logits"], expected(model, image))


def test_one_output_may_be_an_npy(noria, model: Path, image: Path, tmp_path: Path) -> None:
    noria("run", model, "--input", f"image={image}", "--output", tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected(model, image))


def test_all_inputs_may_come_in_one_npz(
    noria, model: Path, image: Path, label: Path, tmp_path: Path
) -> None:
    batch = tmp_path / "batch.npz"
    np.savez(batch, image=np.load(image), label=np.load(label))
    together = noria("run", model, "--input", batch)
    apart = noria("run", model, "--input", f"image={image}", "--input", f"label={label}")
    assert together.code == apart.code == 0
    assert together.out == apart.out
    assert [line.split(":")[0] for line in apart.out.splitlines() if ":" in line] == [
        "loss",
        "accuracy",
        "logits",
    ]


def test_a_file_may_have_an_equals_sign_in_its_name(
    noria, model: Path, image: Path, tmp_path: Path
) -> None:
    odd = image.rename(tmp_path / "a=b.npy")
    assert noria("run", model, "--input", odd, "--fetch", "logits").code == 0
    assert noria("run", model, "--input", f"image={odd}", "--fetch", "logits").code == 0


def test_inputs_nobody_needs_are_not_in_the_way(
    noria, model: Path, image: Path, label: Path
) -> None:
    inputs = ["--input", f"image={image}", "--input", f"label={label}"]
    assert noria("run", model, *inputs, "--fetch", "logits").code == 0


def save(path: Path, array: object) -> Path:
    np.save(path, np.asarray(array))
    return path


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 5), np.float32), ["expected 4", "got      5"]),
        (np.zeros(4, np.float32), ["expected 2 axes", "got      1 axes"]),
        (np.array([["a", "b"]]), ["expected float32[N, 4]", "<U1[1, 2]"]),
        (np.zeros((2, 4), np.complex64), ["complex64[2, 4]", "astype('float32')"]),
        (np.zeros((2, 4), "M8[s]"), ["datetime64[s][2, 4]"]),
    ],
    ids=["size", "rank", "text", "complex", "time"],
)
def test_a_wrong_array_is_told(
    noria, model: Path, tmp_path: Path, array: np.ndarray, words: list[str]
) -> None:
    ran = noria("run", model, "--input", save(tmp_path / "x.npy", array), "--fetch", "logits")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert all(word in ran.err for word in words), ran.err


def test_fractions_are_not_cut_off_for_an_integer_input(
    noria, model: Path, image: Path, tmp_path: Path
) -> None:
    half = save(tmp_path / "half.npy", [0.5, 1.0])
    ran = noria("run", model, "--input", f"image={image}", "--input", f"label={half}")
    assert ran.code == 1
    assert "expected int64[N]" in ran.err and "got      float64[2]" in ran.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["the model needs inputs", "--input image=FILE.npy"]),
        (["--input", "label={label}"], ["inputs are missing", "--input image=FILE.npy"]),
        (["--input", "{image}"], ["which input is", "image={image} or label={image}"]),
        (["--input", "imag={image}"], ["no input 'imag'", "did you mean 'image'?"]),
        (["--input", "image=nothing.npy"], ["no such file", "nothing.npy"]),
        (["--input", "image=."], ["not a readable .npy"]),
        (["--input", "image={image}", "--fetch", "logit"], ["did you mean 'logits'?"]),
        (["--input", "image={image}", "--fetch", "loss"], ["--input label=FILE.npy"]),
        (["--input", "image={image}", "--output", "y.txt"], ["expected FILE.npz"]),
        (
            ["--input", "image={image}", "--input", "label={label}", "--output", "y.npy"],
            ["expected FILE.npz\n"],
        ),
    ],
)
def test_a_wrong_call_is_told(
    noria, model: Path, image: Path, label: Path, args: list[str], words: list[str]
) -> None:
    names = {"image": image, "label": label}
    ran = noria("run", model, *(a.format(**names) for a in args))
    assert ran.code == 1
    assert all(word.format(**names) in ran.err for word in words), ran.err


def broken(path: Path, image: Path) -> list[Path]:
    whole = image.read_bytes()
    np.savez(path / "whole.npz", image=np.zeros(99))
    zipped = (path / "whole.npz").read_bytes()
    contents = {
        "empty.npy": b"",
        "cut.npy": whole[:-3],
        "head.npy": whole[:20],
        "other.npy": b"GIF89a",
        "version.npy": b"\x93NUMPY garbage",
        "cut.npz": zipped[:-40],
        "flipped.npz": zipped.replace(b"\0" * 64, b"\1" * 64, 1),
    }
    for name, content in contents.items():
        (path / name).write_bytes(content)
    np.save(path / "object.npy", np.array([{}], object), allow_pickle=True)
    return [path / name for name in (*contents, "object.npy")]


def test_broken_files_are_format_errors(image: Path, tmp_path: Path) -> None:
    for path in broken(tmp_path, image):
        with pytest.raises(FormatError, match=r"not a readable"):
            read_arrays(path)
