"""jieba's small tagger: Fluid parameters, and the program its package builds around them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from noria.convert.fluid.parameters import read_folder
from noria.convert.fluid.reader import read_program
from noria.core.errors import MissingError
from noria.data.packages import JIEBA, package_folder
from noria.runtime.predictor import Predictor
from tests.convert.fluid.describing import Desc
from tests.convert.fluid.lac import table

LABELLED = Path(os.environ.get("NORIA_VECTORS") or Path(__file__).parents[4] / "shared" / "vectors")
LABELLED = LABELLED.parent / "data" / "lac_labelled"


def tagger(words: int, tags: int) -> Desc:
    """Two bidirectional GRU layers and a random field."""
    desc = Desc().var("words", [-1, 1], levels=1, dtype=3)
    shapes = {"word_emb": [words, 128], "crfw": [tags + 2, tags]}
    shapes |= {f"gru_{k}.w_0": [128, 384] for k in range(4)}
    shapes |= {f"gru_{k}.b_0": [1, 384] for k in range(4)}
    for k, (rows, columns) in enumerate([(128, 384)] * 2 + [(256, 384)] * 2 + [(256, tags)]):
        shapes |= {f"fc_{k}.w_0": [rows, columns], f"fc_{k}.b_0": [columns]}
    for name, shape in shapes.items():
        desc.var(name, shape, kept=True)
    desc.op("lookup_table", {"Ids": "words", "W": "word_emb"}, {"Out": "x0"})
    for layer in range(2):
        for k, reverse in ((2 * layer, False), (2 * layer + 1, True)):
            dense(desc, k, f"x{layer}")
            inputs = {"Input": f"z{k}", "Weight": f"gru_{k}.w_0", "Bias": f"gru_{k}.b_0"}
            desc.op("gru", inputs, {"Hidden": f"h{k}"}, is_reverse=reverse)
        both = [f"h{2 * layer}", f"h{2 * layer + 1}"]
        desc.op("concat", {"X": both}, {"Out": f"x{layer + 1}"}, axis=1)
    dense(desc, 4, "x2")
    return desc.op("crf_decoding", {"Emission": "z4", "Transition": "crfw"}, {"ViterbiPath": "y"})


def dense(desc: Desc, k: int, name: str) -> None:
    desc.op("mul", {"X": name, "Y": f"fc_{k}.w_0"}, {"Out": f"y{k}"})
    desc.op("elementwise_add", {"X": f"y{k}", "Y": f"fc_{k}.b_0"}, {"Out": f"z{k}"}, axis=1)


def chunks(labels: list[str]) -> set[tuple[int, int, str]]:
    """(begin, end, kind) of each word."""
    starts = [i for i, t in enumerate(labels) if i == 0 or t.endswith("-B") or t == "O"]
    ends = [*starts[1:], len(labels)]
    return {(a, b, labels[a].split("-")[0]) for a, b in zip(starts, ends, strict=True)}


@pytest.mark.suite("jieba: tags of Baidu's labelled sentences")
def test_chunks_of_baidus_labelled_sentences():
    try:
        folder = package_folder(JIEBA, "jieba/lac_small")
    except MissingError as error:
        pytest.skip(f"{error.what}: {error.got}")
    if not LABELLED.is_dir():
        pytest.skip(f"no labelled sentences at {LABELLED}")
    words = {word: int(n) for n, word in table(folder / "word.dic")}
    tags = {int(n): tag for n, tag in table(folder / "tag.dic")}
    program = read_program(tagger(max(words.values()) + 1, max(tags) + 1).message, outputs=["y"])
    state = read_folder(folder / "model_baseline", program.state)
    predictor = Predictor(program, state, threads=1)
    right = found = wanted = 0
    for path in sorted(LABELLED.iterdir()):
        for line in path.read_text(encoding="utf8").splitlines():
            text, _, labels = line.partition("\t")
            ids = np.array([words.get(c, words["OOV"]) for c in text], np.int64)[:, None]
            splits = np.array([0, len(ids)])
            got = predictor.run({"words": ids, "words.row_splits": splits})["y"][:, 0]
            mine, theirs = chunks([tags[int(t)] for t in got]), chunks(labels.split())
            right += len(mine & theirs)
            found, wanted = found + len(mine), wanted + len(theirs)
    assert 2 * right / (found + wanted) >= 0.887  # chunk F1
