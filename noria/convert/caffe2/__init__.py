"""Caffe2: networks of operators on named blobs (NetDef), an init net and a predict net."""

from noria.convert.caffe2.reader import load, net_of_one_operator

__all__ = ["load", "net_of_one_operator"]
