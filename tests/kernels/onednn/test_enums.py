import ctypes

import pytest

from noria.core.errors import ArgumentError
from noria.kernels.onednn import enums, lib


@pytest.mark.parametrize(
    ("table", "prefix"),
    [
        (enums.ELTWISE, "eltwise_"),
        (enums.BINARY, "binary_"),
    ],
)
def test_algorithm_numbers_mean_what_the_library_says(table, prefix):
    name_of = lib.library().c.dnnl_alg_kind2str
    name_of.restype = ctypes.c_char_p
    assert {name: name_of(code).decode() for name, code in table.items()} == {
        name: prefix + name for name in table
    }


def test_numbers_without_a_table_of_their_own_mean_what_the_library_says():
    name_of = lib.library().c.dnnl_alg_kind2str
    name_of.restype = ctypes.c_char_p
    assert name_of(enums.CONVOLUTION_DIRECT) == b"convolution_direct"
    assert name_of(enums.DECONVOLUTION_DIRECT) == b"deconvolution_direct"


def test_dtype_and_fpmath_numbers_mean_what_the_library_says():
    c = lib.library().c
    c.dnnl_dt2str.restype = c.dnnl_fpmath_mode2str.restype = ctypes.c_char_p
    short = {name: c.dnnl_dt2str(code).decode() for name, code in enums.DTYPES.items()}
    assert short == {
        "float16": "f16",
        "bfloat16": "bf16",
        "float32": "f32",
        "int32": "s32",
        "int8": "s8",
        "uint8": "u8",
        "float64": "f64",
    }
    assert [c.dnnl_fpmath_mode2str(code).decode() for code in enums.FPMATH.values()] == list(
        enums.FPMATH
    )


def test_propagation_numbers_mean_what_the_library_says():
    name_of = lib.library().c.dnnl_prop_kind2str
    name_of.restype = ctypes.c_char_p
    assert name_of(enums.FORWARD_TRAINING) == b"forward_training"
    assert name_of(enums.FORWARD_INFERENCE) == b"forward_inference"


def test_status_names_are_the_librarys():
    name_of = lib.library().c.dnnl_status2str
    name_of.restype = ctypes.c_char_p
    theirs = [name_of(i).decode().replace("_", " ") for i in range(len(enums.STATUS))]
    ours = [s.replace("implementation", "impl") for s in enums.STATUS]
    assert ours == theirs


def test_an_unknown_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(ArgumentError, match="did you mean 'gelu_erf'"):
        enums.lookup(enums.ELTWISE, "gelu_erff", "eltwise kind")
    with pytest.raises(ArgumentError, match="no eltwise kind"):
        enums.lookup(enums.ELTWISE, None, "eltwise kind")


def test_arguments_have_readable_names():
    ARG = enums.ARG
    assert enums.arg_name(ARG.SRC) == "src"
    assert enums.arg_name(ARG.DIFF_WEIGHTS) == "diff_weights"
    assert enums.arg_name(ARG.post_op(1)) == "post_op[1]"
    assert enums.arg_name(777) == "777"
