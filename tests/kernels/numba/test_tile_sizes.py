import subprocess
import sys

from noria.kernels.numba import tile_sizes as sizes


def test_accumulators_and_operands_fit_the_registers():
    registers = 32 if sizes.WIDE else 16
    assert registers >= sizes.ROWS * sizes.VECTORS + sizes.VECTORS + 1
    assert sizes.PANEL == sizes.VECTORS * sizes.WIDTH


def test_kernels_that_multiply_do_not_import_numba():
    code = "import sys, noria.kernels.library; print('numba' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
