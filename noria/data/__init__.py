"""Data sets and readers, for users: `from noria import data`."""

from noria.data.dataset import ArrayDataset, Dataset
from noria.data.idx import read_idx, write_idx
from noria.data.reader import Reader
from noria.data.sources import digits, fashion_mnist, mnist

__all__ = [
    "ArrayDataset",
    "Dataset",
    "Reader",
    "digits",
    "fashion_mnist",
    "mnist",
    "read_idx",
    "write_idx",
]
