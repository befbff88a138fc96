"""Ops and kernels that a test adds are forgotten after it."""

import pytest

from noria.ir.opdef import registry
from noria.kernels import registry as kernels


@pytest.fixture
def own_ops():
    before = dict(registry)
    yield registry
    registry.clear()
    registry.update(before)


@pytest.fixture
def own_kernels(monkeypatch):
    """A list of kernels that are asked before all others."""
    added = []

    def register(kernel):
        added.append(kernel)
        monkeypatch.setattr(kernels, "_kernels", [*added, *original])
        monkeypatch.setattr(kernels, "_index", (-1, {}))
        return kernel

    original = kernels.kernels()
    yield register
    monkeypatch.setattr(kernels, "_index", (-1, {}))
