"""The layers of SSD, against OpenCV."""

import numpy as np
import pytest

RNG = np.random.default_rng(4)

PRIOR = """
layer { name: "p" type: "PriorBox" bottom: "f" bottom: "data" top: "p"
  prior_box_param { %s variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
"""


@pytest.mark.parametrize(
    "text",
    [
        "min_size: 30 max_size: 60 aspect_ratio: 2 flip: true clip: false step: 8 offset: 0.5",
        "min_size: 30 aspect_ratio: 2 aspect_ratio: 3 flip: false clip: false",
        "min_size: 20 max_size: 50 aspect_ratio: 2 clip: true",
        "min_size: 30 max_size: 60 aspect_ratio: 2 step_h: 10 step_w: 12 offset: 0.4 clip: false",
    ],
)
def test_priors(text, same_in_opencv):
    image, features = np.zeros((1, 3, 64, 48), np.float32), np.zeros((1, 4, 5, 6), np.float32)
    same_in_opencv(PRIOR % text, data=image, f=features, tol=1e-5)


@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.parametrize("code", ["CENTER_SIZE", "CORNER"])
def test_detections(shared, code, run, write):
    """Against OpenCV's layer: what it found, without the rows it fills up with."""
    cv2 = pytest.importorskip("cv2")
    count, classes = 60, 3
    places = 1 if shared == "true" else classes
    low = RNG.uniform(0, 0.7, (count, 2))
    boxes = np.concatenate([low, low + RNG.uniform(0.05, 0.3, (count, 2))], 1)
    priors = np.stack([boxes.reshape(-1), np.tile([0.1, 0.1, 0.2, 0.2], count)])
    priors = priors[None].astype(np.float32)
    deltas = (RNG.normal(size=(1, count * places * 4)) * 0.3).astype(np.float32)
    scores = RNG.dirichlet([1] * classes, (1, count)).astype(np.float32).reshape(1, -1)
    how = f"num_classes: {classes} share_location: {shared} background_label_id: 0 "
    how += f"nms_param {{ nms_threshold: 0.45 top_k: 40 }} code_type: {code} keep_top_k: 25 "
    how += "confidence_threshold: 0.2"
    text = 'layer { name: "y" type: "DetectionOutput" bottom: "d" bottom: "s" bottom: "p" top: "y" '
    text += f"detection_output_param {{ {how} }} }}"
    found = run(text, d=deltas, s=scores, p=priors)["y"][0, 0]
    shapes = {"d": deltas.shape, "s": scores.shape, "p": priors.shape}
    net = cv2.dnn.readNetFromCaffe(*write(text, {}, shapes))
    for name, array in (("d", deltas), ("s", scores), ("p", priors)):
        net.setInput(array, name)
    want = net.forward("y")[0, 0]
    want = want[want[:, 2] > 0]
    assert len(found) == len(want) == 25
    for rows in (found, want):  # rows of one class and of equal standing come in any order
        rows[:] = rows[np.lexsort((-rows[:, 2], rows[:, 1]))]
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_nothing_found_is_no_row(run):
    text = 'layer { name: "y" type: "DetectionOutput" bottom: "d" bottom: "s" bottom: "p" top: "y" '
    text += "detection_output_param { num_classes: 2 confidence_threshold: 0.9 } }"
    priors = np.full((1, 2, 8), 0.1, np.float32)
    got = run(text, d=np.zeros((1, 8), "f4"), s=np.full((1, 4), 0.5, "f4"), p=priors)
    assert got["y"].shape == (1, 1, 0, 7)
