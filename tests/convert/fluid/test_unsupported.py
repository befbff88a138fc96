"""What is not supported is told, and nothing else is missing."""

import json
from pathlib import Path

from noria.convert.fluid import library  # noqa: F401  (registers the handlers)
from noria.convert.fluid.handlers import fluid_op
from noria.convert.fluid.unsupported import UNSUPPORTED


def test_what_is_supported_is_not_listed_as_unsupported():
    assert not set(fluid_op.names()) & set(UNSUPPORTED)


def test_every_operator_is_supported_or_listed_with_the_reason(fluid_vectors: Path):
    known = json.loads((fluid_vectors / "ops.json").read_text())
    missing = set(known) - set(fluid_op.names()) - set(UNSUPPORTED)
    assert not missing, f"neither supported nor explained: {', '.join(sorted(missing))}"
