"""Pooling of regions of Fluid that no shared vector judges."""

import numpy as np
import pytest

from noria import ops
from noria.convert.fluid.handlers import Lod

X = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)
ROIS = np.array([[0, 0, 8, 8], [2, 3, 9, 7], [1, 1, 5, 9]], np.float32)
BATCH = np.array([0, 1, 1])
SIZE = {"pooled_height": 2, "pooled_width": 2, "spatial_scale": 0.5}


@pytest.mark.parametrize("told", ["rows", "splits"])
def test_the_images_of_regions_are_told_by_rows_or_by_splits(run_op, told):
    splits = np.array([0, 1, 3])
    rois = {"ROIs": Lod(ROIS, (splits,))} if told == "rows" else {"ROIs": ROIS, "RoisLod": splits}
    got = run_op("roi_align", {"X": X} | rois, SIZE | {"sampling_ratio": 2})["Out"]
    want = ops.roi_align(X, ROIS, BATCH, size=2, scale=0.5, samples=2)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_deformable_pooling_with_and_without_moves(run_op):
    attrs = SIZE | {
        "output_dim": 4,
        "group_size": [1, 1],
        "part_size": [2, 2],
        "sample_per_part": 2,
        "trans_std": 0.2,
        "no_trans": False,
    }
    moves = np.full((3, 2, 2, 2), 0.1, np.float32)
    inputs = {"Input": X, "ROIs": Lod(ROIS, (np.array([0, 1, 3]),)), "Trans": moves}
    slots = ("Output", "TopCount")
    how = {"size": 2, "scale": 0.5, "channels": 4, "samples": 2, "spread": 0.2}
    for still in (False, True):
        got = run_op("deformable_psroi_pooling", inputs, attrs | {"no_trans": still}, outputs=slots)
        want = ops.deformable_psroi_pool(X, ROIS, BATCH, None if still else moves, **how)
        np.testing.assert_allclose(got["Output"], want[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(got["TopCount"], want[1])


def test_regions_in_perspective(run_op):
    quads = np.array([[0, 0, 8, 0, 8, 8, 0, 8]], np.float32)
    attrs = {"transformed_height": 5, "transformed_width": 5, "spatial_scale": 0.5}
    inputs = {"X": X[:1], "ROIs": Lod(quads, (np.array([0, 1]),))}
    slots = ("Out", "Mask", "TransformMatrix")
    got = run_op("roi_perspective_transform", inputs, attrs, outputs=slots)
    np.testing.assert_allclose(got["Out"], X[:1, :, :5, :5], atol=1e-4)
    assert got["Mask"].shape == (1, 1, 5, 5) and got["Mask"].all()
