"""Caffe networks as Programs: `noria.convert.caffe.load("deploy.prototxt", "net.caffemodel")`."""

from noria.convert.caffe.reader import load

__all__ = ["load"]
