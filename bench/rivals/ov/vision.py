"""Convolutional networks in OpenVINO."""

from bench.rivals.ov.common import makers

MAKERS = makers("vision")
