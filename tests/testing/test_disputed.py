"""Disputed cases are patterns with reasons."""

import re

from noria.testing.disputed import DISPUTED


def test_every_dispute_is_a_pattern_and_says_why() -> None:
    for pattern, why in DISPUTED.items():
        re.compile(pattern)
        assert len(why.split()) > 5
