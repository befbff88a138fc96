from __future__ import annotations

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, MissingError, ShapeError
from noria.data.dataset import ArrayDataset, Dataset


@pytest.fixture
def dataset() -> ArrayDataset:
    return ArrayDataset({"image": np.arange(12.0).reshape(4, 3), "label": np.array([3, 2, 1, 0])})


def test_take_gives_each_array_in_the_order_asked(dataset: ArrayDataset) -> None:
    batch = dataset.take(np.array([2, 0, 2]))
    assert list(batch) == ["image", "label"]
    assert batch["image"].tolist() == [[6, 7, 8], [0, 1, 2], [6, 7, 8]]
    assert batch["label"].tolist() == [1, 3, 1]


def test_taken_samples_are_copies(dataset: ArrayDataset) -> None:
    dataset.take([0, 1, 2, 3])["image"][:] = -1
    assert dataset["image"].min() == 0


def test_dataset_keeps_arrays_without_copy_and_tells_its_columns() -> None:
    image = np.zeros((5, 2), np.float32)
    dataset = ArrayDataset({"image": image, "label": [1, 2, 3, 4, 5]})
    assert len(dataset) == 5
    assert dataset.names == ("image", "label")
    assert dataset["image"] is image
    assert repr(dataset) == "ArrayDataset(5 x {image: float32 [2], label: int64 []})"
    assert isinstance(dataset, Dataset)


def test_memory_mapped_array_is_read_where_asked(tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6))
    dataset = ArrayDataset({"x": np.load(tmp_path / "x.npy", mmap_mode="r")})
    assert dataset.take([5, 1])["x"].tolist() == [5, 1]


def test_empty_selection_keeps_shapes_and_types(dataset: ArrayDataset) -> None:
    batch = dataset.take([])
    assert batch["image"].shape == (0, 3)
    assert batch["image"].dtype == np.float64


def test_unequal_lengths_are_named() -> None:
    with pytest.raises(ShapeError) as info:
        ArrayDataset({"image": np.zeros((3, 2)), "label": np.zeros(4)})
    assert info.value.got == "'image' 3, 'label' 4"


def test_unknown_name_suggests_the_nearest(dataset: ArrayDataset) -> None:
    with pytest.raises(MissingError, match="did you mean 'label'"):
        dataset["lable"]


@pytest.mark.parametrize("indices", [[4], [-1], [0, 100]])
def test_index_outside_is_an_error(dataset: ArrayDataset, indices: list[int]) -> None:
    with pytest.raises(ArgumentError, match="outside of the data set"):
        dataset.take(indices)


@pytest.mark.parametrize("indices", [3, [[0, 1]], [0.5], [True, False]])
def test_indices_must_be_a_vector_of_integers(dataset: ArrayDataset, indices: object) -> None:
    with pytest.raises(ArgumentError, match="vector of integers"):
        dataset.take(indices)


def test_no_arrays_scalars_and_ragged_rows_are_errors() -> None:
    with pytest.raises(ArgumentError, match="at least one array"):
        ArrayDataset({})
    with pytest.raises(ShapeError, match="no first axis"):
        ArrayDataset({"x": 3.0})
    with pytest.raises(DTypeError, match="packed"):
        ArrayDataset({"x": [[1, 2], [3]]})
    with pytest.raises(DTypeError, match="'x' is not a rectangular array"):
        ArrayDataset({"x": np.array([None, 1], object)})
