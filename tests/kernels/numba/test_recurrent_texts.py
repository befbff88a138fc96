"""What the texts leave to be filled in, and nothing else."""

import re

from noria.kernels.numba import recurrent_texts as texts

ANYWHERE = {"AT", "MEET", "UNITS", "PANEL", "CHUNK", "DEPTH", "ROWS", "LINE", "GATES", "STAGES"}
ANYWHERE |= {"WORD", "SPACE", "H_BYTES", "DZ_BYTES"}
OWN = {
    "SORT": {"SPLITS"},
    "ROLE": {"FIELDS"},
    "DEAL": {"SPLITS"},
    "NEXT": set(),
    "MEET": set(),
    "FORWARD": {"PHASES", "FIRST"},
    "FIRST": set(),
    "FIRST_ROUNDED": set(),
    "CLEAR": set(),
    "CLEAR_HANDED": set(),
    "PHASE": {"GIVEN", "MATRIX", "NEXT", "COLUMNS", "TILE", "WHOLE_LANES", "CUT_LANES"},
    "SWAP": set(),
    "BACKWARD": {"WHOLE_LANES", "CUT_LANES", "SUM", "ADDS", "LAST"},
    "LAST": set(),
    "LAST_ROUNDED": set(),
    "BACKWARD_PHASED": {"PHASES"},
    "PHASE_BACKWARD": {"COLUMNS", "MATRIX", "RESULT", "WHOLE_LANES", "CUT_LANES", "ADDS"},
    "SUM": {"ADDS"},
}


def test_texts_name_only_what_is_filled_in():
    for name, own in OWN.items():
        text = re.sub(r"#.*|0x\w+", "", getattr(texts, name))
        words = set(re.findall(r"\b[A-Z][A-Z_]+\b|(?<=load_)SPLITS", text))
        words = {word for word in words if not word.startswith("AT_")}
        assert words <= ANYWHERE | own, name
