import pytest

from noria.ir.opdef import registry
from tests.ir.programs import define_call


@pytest.fixture
def own_ops():
    """Ops that the test defines are forgotten after it."""
    before = dict(registry)
    yield registry
    registry.clear()
    registry.update(before)


@pytest.fixture
def call_op(own_ops):
    """The throw-away control-flow op."""
    return define_call()
