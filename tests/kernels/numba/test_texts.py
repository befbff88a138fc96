import re

from noria.kernels.numba.texts import CHECK_SPLITS, reading


def test_names_are_read_in_order_however_they_come():
    lines = ["    x = load_int64(args, 0)", "    y = load_int64(args, 1)"]
    assert reading("x y") == reading("x", "y") == reading(" x\n y ") == "\n".join(lines)


def test_what_lies_behind_has_an_address():
    assert reading("x y", "z", behind="rest").splitlines()[-1] == "    rest = args + 24"


def test_no_names_are_no_lines():
    assert reading() == ""


def test_the_check_of_splits_names_nothing_to_fill_in_but_their_dtype():
    assert set(re.findall(r"[A-Z]+", CHECK_SPLITS)) == {"SPLITS"}
