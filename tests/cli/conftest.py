"""A small saved model, and a command line whose output can be looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from noria.cli.main import main
from noria.ir.save import save
from noria.ir.trace import spec, trace
from noria.runtime.scope import Scope
from noria.zoo.digits import classify
from noria.zoo.mlp import MLP


class Ran(NamedTuple):
    code: object
    out: str
    err: str


Noria = Callable[..., Ran]


@pytest.fixture
def noria(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Noria:
    monkeypatch.delenv("NORIA_DEBUG", raising=False)

    def call(*args: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in args])
        return Ran(end.value.code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """image float32[N, 4], label int64[N] -> loss, accuracy, logits float32[N, 3]"""
    inputs = {"image": spec("N", 4), "label": spec("N", dtype="int64")}
    program = trace(classify(MLP(4, 5, 3)), name="small", **inputs)
    path = tmp_path_factory.mktemp("model") / "small.noria"
    save(program, path, Scope().initialize(program, seed=1).state())
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """float64[2, 4] in a file"""
    path = tmp_path / "image.npy"
    np.save(path, np.linspace(-1, 1, 8).reshape(2, 4))
    return path
