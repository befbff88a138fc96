"""DeepFM in OpenVINO."""

from bench.rivals.ov.common import makers

MAKERS = makers("sparse")
