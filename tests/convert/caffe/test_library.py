"""Every family is imported."""

import pkgutil

from noria.convert import caffe
from noria.convert.caffe import library
from noria.convert.caffe.handlers import caffe_layer

FRAME = {"handlers", "library", "network", "reader"}


def test_every_family_is_listed_and_gives_layers():
    files = {m.name for m in pkgutil.iter_modules(caffe.__path__)} - FRAME
    assert files == {n for n in vars(library) if not n.startswith("_")}
    assert len(list(caffe_layer.names())) >= 45
