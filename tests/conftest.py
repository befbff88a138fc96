"""Set before anything is imported: jax on the CPU, and quiet; memory plans proved at every bind."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("NORIA_CHECK_MEMORY", "1")

import pytest


@pytest.fixture
def fast_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests about kernels themselves, when all others run with NORIA_KERNELS=reference."""
    monkeypatch.delenv("NORIA_KERNELS", raising=False)
