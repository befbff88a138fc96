"""Every kernel of noria, in the order they are asked. Importing this module registers them."""

from noria.kernels.numba import elementwise as _elementwise
from noria.kernels.onednn import conv as _conv
from noria.kernels.onednn import linalg as _linalg

__all__: list[str] = []
_modules = (_linalg, _conv, _elementwise)
