"""Tensors of ONNX files: every element type, lengths that lie, data outside the folder."""

from pathlib import Path

import numpy as np
import pytest

from noria.convert.messages import schema
from noria.convert.onnx.tensors import DTYPES, array_of, dense_of, dtype_of
from noria.core.errors import FormatError

onnx = pytest.importorskip("onnx")
NUMBERS = [n for n in DTYPES if n != 8]


def parsed(tensor: object) -> object:
    return schema("onnx").TensorProto.FromString(tensor.SerializeToString())


def sample(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return (rng.integers(0, 2, (3, 5)) if number == 9 else rng.uniform(0, 3, (3, 5))).astype(
        DTYPES[number]
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_raw_bytes_are_read_as_onnx_wrote_them(number: int) -> None:
    array = sample(number)
    tensor = onnx.numpy_helper.from_array(array)
    assert tensor.data_type == number
    got = array_of(parsed(tensor))
    assert got.dtype == array.dtype
    assert np.array_equal(got, array)
    assert not got.flags.writeable


@pytest.mark.parametrize("number", NUMBERS)
def test_typed_fields_are_read_as_onnx_wrote_them(number: int) -> None:
    array = sample(number)
    tensor = onnx.helper.make_tensor("t", number, array.shape, array.reshape(-1).tolist())
    assert np.array_equal(array_of(parsed(tensor)), onnx.numpy_helper.to_array(tensor))


def test_strings_are_an_array_of_objects() -> None:
    tensor = onnx.helper.make_tensor("t", 8, [2], ["a", "您"])
    assert array_of(parsed(tensor)).tolist() == ["a", "您"]


@pytest.mark.parametrize(
    ("dims", "raw"),
    [((2, 2), bytes(12)), ((1 << 62,), bytes(4)), ((1 << 62, 4), b""), ((-1,), b"")],
)
def test_a_length_that_lies_is_an_error_before_memory_is_taken(
    dims: tuple[int, ...], raw: bytes
) -> None:
    with pytest.raises(FormatError, match=r"wrong number of bytes|negative"):
        array_of(schema("onnx").TensorProto(dims=dims, data_type=1, raw_data=raw))


def test_an_unknown_element_type_is_an_error() -> None:
    with pytest.raises(FormatError, match="unknown element type"):
        dtype_of(99)


def external(tmp_path: Path, **entries: str) -> object:
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in" / "w.bin").write_bytes(np.arange(6, dtype="f4").tobytes())
    (tmp_path / "out.bin").write_bytes(bytes(64))
    made = schema("onnx").TensorProto(dims=[4], data_type=1, data_location=1, name="w")
    for key, value in entries.items():
        made.external_data.add(key=key, value=value)
    return made


def test_external_data_are_read_at_their_offset(tmp_path: Path) -> None:
    tensor = external(tmp_path, location="w.bin", offset="8", length="16")
    assert array_of(tensor, tmp_path / "in").tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../out.bin"},
        {"location": "/etc/passwd"},
        {"location": ""},
        {"location": "w.bin", "offset": "16"},
        {"location": "w.bin", "offset": "-4"},
        {"location": "w.bin", "length": "8"},
        {"location": "w.bin", "offset": "9" * 30},
    ],
)
def test_external_data_stay_inside_the_folder_and_their_file(
    tmp_path: Path, entries: dict[str, str]
) -> None:
    with pytest.raises(FormatError):
        array_of(external(tmp_path, **entries), tmp_path / "in")


def test_a_link_does_not_lead_outside_the_folder(tmp_path: Path) -> None:
    tensor = external(tmp_path, location="link.bin")
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "out.bin")
    with pytest.raises(FormatError, match="in the folder of the model"):
        array_of(tensor, tmp_path / "in")


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_tensors_are_written_out(indices: list) -> None:
    made = schema("onnx").SparseTensorProto(dims=[2, 3])
    made.values.CopyFrom(parsed(onnx.numpy_helper.from_array(np.array([7.0, 8.0], "f4"))))
    made.indices.CopyFrom(parsed(onnx.numpy_helper.from_array(np.array(indices))))
    assert dense_of(made).tolist() == [[0, 7, 0], [0, 0, 8]]


@pytest.mark.parametrize(("dims", "index"), [([2, 3], 6), ([2, 3], -1), ([1 << 40, 1 << 20], 0)])
def test_sparse_tensors_stay_within_their_size(dims: list[int], index: int) -> None:
    made = schema("onnx").SparseTensorProto(dims=dims)
    made.values.CopyFrom(parsed(onnx.numpy_helper.from_array(np.array([7.0], "f4"))))
    made.indices.CopyFrom(parsed(onnx.numpy_helper.from_array(np.array([index]))))
    with pytest.raises(FormatError):
        dense_of(made)
