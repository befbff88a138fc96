import subprocess
import sys

import pytest

import noria
from noria import nn, ops, optim
from noria.kernels.numba import tile_sizes as sizes


def test_accumulators_and_operands_fit_the_registers():
    registers = 32 if sizes.WIDE else 16
    assert registers >= sizes.ROWS * sizes.VECTORS + sizes.VECTORS + 1
    assert sizes.PANEL == sizes.VECTORS * sizes.WIDTH


def test_kernels_that_multiply_do_not_import_numba():
    code = "import sys, noria.kernels.library; print('numba' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def kernels_of_products(precision):
    """Of a step of training: a kernel for each convolution, gradient of one, and product."""
    layers = [
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(64, 128, 1),
        nn.Conv2d(128, 64, 3, stride=2, padding=1),
    ]
    model = nn.Sequential(nn.Linear(64, 64), *layers, nn.Linear(32, 512))
    step = noria.trace(lambda x: {"loss": ops.reduce_mean(model(x))}, x=noria.spec(800, 64, 8, 64))
    executor = noria.Executor(optim.SGD(0.1).minimize(step), precision=precision)
    products = ("conv", "fused_conv", "linear", "matmul")
    steps = [s for s in executor.plan(["loss"]).steps if s.op.type.startswith(products)]
    assert len(steps) >= 10
    return [s.kernel.name if s.kernel else "reference" for s in steps]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_products_of_halves_are_left_to_matrix_units(precision, monkeypatch, fast_kernels):
    monkeypatch.setattr(sizes, "MATRIX_UNITS", False)
    assert any(k.startswith("numba:") for k in kernels_of_products(precision))
    monkeypatch.setattr(sizes, "MATRIX_UNITS", True)
    own = any(k.startswith("numba:") for k in kernels_of_products(precision))
    assert own == (precision == "float32")
