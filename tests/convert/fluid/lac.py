"""Baidu's LAC around its three models: texts to ids, tags to words, as its package does it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noria.data.packages import LAC, package_folder


def table(path: Path) -> list[tuple[str, str]]:
    """The rows of two columns of a file."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf8").split("\n")]
    return [(row[0], row[1]) for row in rows if len(row) == 2]


class Texts:
    """Ids of texts and labels of ids, from the tables beside a model.

    A text is cut into words of a dictionary; what the vocabulary has as a word gets one id, the
    rest an id for each character.
    """

    def __init__(self, conf: Path) -> None:
        self.words = {word: int(number) for number, word in table(conf / "word.dic")}
        self.labels = {int(number): label for number, label in table(conf / "tag.dic")}
        self.plain = dict(table(conf / "q2b.dic"))
        lines = (conf / "small_seg.dic").read_text(encoding="utf8").split("\n")
        counted = [line.split(" ") for line in lines if " " in line]
        self.known = {word: math.log(len(word)) for word, _ in counted}
        self.starts = {word[:k] for word in self.known for k in range(1, len(word))}
        self.total = math.log(sum(int(count) for _, count in counted))

    def cut(self, text: str) -> list[str]:
        """The most probable words, single letters and digits in a row put together."""
        best: list[tuple[float, int]] = [(0.0, 0)] * (len(text) + 1)
        for i in range(len(text) - 1, -1, -1):
            ends, end = [i + 1], i + 1
            while end <= len(text) and (text[i:end] in self.known or text[i:end] in self.starts):
                if text[i:end] in self.known:
                    ends.append(end)
                end += 1
            scores = [(self.known.get(text[i:e], 0.0) - self.total + best[e][0], e) for e in ends]
            best[i] = max(scores)
        words, at, letters = [], 0, ""
        while at < len(text):
            word = text[at : best[at][1]]
            at += len(word)
            if len(word) == 1 and re.match("[a-zA-Z0-9]", word):
                letters += word
                continue
            words += [letters, word] if letters else [word]
            letters = ""
        return [*words, letters] if letters else words

    def ids(self, text: str) -> tuple[np.ndarray, list[int]]:
        """(ids [T, 1], how many characters each stands for)."""
        found, lengths = [], []
        for word in self.cut(text):
            parts = [word] if word in self.words else list(word)
            found += [self.words.get(self.plain.get(p, p), self.words["OOV"]) for p in parts]
            lengths += [len(p) for p in parts]
        return np.array(found, np.int64)[:, None], lengths

    def characters(self, text: str) -> np.ndarray:
        """Ids of the characters [T, 1]: for the model that only cuts."""
        oov = self.words["OOV"]
        found = [self.words.get(self.plain.get(c, c), oov) for c in text]
        return np.array(found, np.int64)[:, None]


def spread(values: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """One value a character."""
    return [int(v) for v, n in zip(values, lengths, strict=True) for _ in range(n)]


def marks(texts: Texts, tags: Sequence[int], lengths: Sequence[int]) -> list[str]:
    """A label a character; inside an id of several characters the word goes on."""
    found = []
    for tag, length in zip(tags, lengths, strict=True):
        label = texts.labels[int(tag)]
        found += [label, *[f"{label[:-2]}-I"] * (length - 1)]
    return found


def begins(labels: Sequence[str]) -> list[int]:
    """Where words begin."""
    return [i for i, label in enumerate(labels) if i == 0 or label[-1] in "BS"]


def folder(name: str) -> Path:
    """The folder of a model of LAC. Raises MissingError where the package cannot be had."""
    return package_folder(LAC, f"LAC/{name}")
