"""A machine of round numbers, and profiles on it."""

import pytest

from noria.runtime import profile as module
from noria.runtime.peaks import Peaks

MACHINE = Peaks("a machine", 2, {"float32": 1e12, "bfloat16": 4e12}, {1000: 1e11, 10**9: 1e10})


@pytest.fixture
def machine(monkeypatch):
    """Nothing is measured but the steps."""
    monkeypatch.setattr(module, "peaks", lambda threads, fresh=False: MACHINE)
    return MACHINE
