"""Numbers of the oneDNN v3 C API, by the names the rest of the binding uses for them."""

from __future__ import annotations

from noria.core.errors import ArgumentError, nearest

DTYPES = {
    "float16": 1,
    "bfloat16": 2,
    "float32": 3,
    "int32": 4,
    "int8": 5,
    "uint8": 6,
    "float64": 7,
}
DTYPE_NAMES = {code: name for name, code in DTYPES.items()}

STATUS = (
    "success",
    "out of memory",
    "invalid arguments",
    "unimplemented",
    "last implementation reached",
    "runtime error",
    "not required",
)

ELTWISE = {
    "relu": 0x20,
    "tanh": 0x21,
    "elu": 0x22,
    "square": 0x23,
    "abs": 0x24,
    "sqrt": 0x25,
    "linear": 0x26,
    "soft_relu": 0x27,
    "hardsigmoid": 0x28,
    "logistic": 0x29,
    "exp": 0x2A,
    "gelu_tanh": 0x2B,
    "swish": 0x2C,
    "log": 0x2D,
    "clip": 0x2E,
    "clip_v2": 0x2F,
    "pow": 0x30,
    "gelu_erf": 0x31,
    "round": 0x32,
    "mish": 0x33,
    "hardswish": 0x34,
    "relu_use_dst_for_bwd": 0x100,
    "tanh_use_dst_for_bwd": 0x101,
    "elu_use_dst_for_bwd": 0x102,
    "sqrt_use_dst_for_bwd": 0x103,
    "logistic_use_dst_for_bwd": 0x104,
    "exp_use_dst_for_bwd": 0x105,
    "clip_v2_use_dst_for_bwd": 0x106,
}
BINARY = {
    name: 0x1FFF0 + i
    for i, name in enumerate(
        ("add", "mul", "max", "min", "div", "sub", "ge", "gt", "le", "lt", "eq", "ne")
    )
}
FPMATH = {"strict": 0, "bf16": 1, "f16": 2, "any": 3, "tf32": 4}

CONVOLUTION_DIRECT = 0x1
DECONVOLUTION_DIRECT = 0xA

FORWARD_TRAINING, FORWARD_INFERENCE = 64, 96

QUERY_IMPL = 8
QUERY_EXEC_ARG_MD = 255
QUERY_NDIMS, QUERY_DIMS, QUERY_DTYPE = 256, 257, 258
QUERY_FORMAT_KIND, QUERY_STRIDES = 262, 14
QUERY_INNER_NBLKS, QUERY_INNER_BLKS, QUERY_INNER_IDXS = 263, 264, 265

FORMAT_ANY, FORMAT_BLOCKED = 1, 2
TAG_ANY = 1
MAX_RANK = 12


class ARG:
    """Which argument of a primitive a memory is: the keys of `Primitive.descs`."""

    SRC = 1
    SRC_1 = 2
    DST = 17
    WEIGHTS = 33
    BIAS = 41
    SCRATCHPAD = 80
    DIFF_SRC = 129
    DIFF_DST = 145
    DIFF_WEIGHTS = 161
    DIFF_BIAS = 169
    _POST_OP = 32768

    @staticmethod
    def post_op(i: int) -> int:
        """The second source of the i-th post-op, where that is a binary one."""
        return ARG._POST_OP * (i + 1) | ARG.SRC_1


_ARG_NAMES = {v: k.lower() for k, v in vars(ARG).items() if isinstance(v, int)} | {ARG.SRC: "src"}


def arg_name(arg: int) -> str:
    """A readable name of an argument number, for messages."""
    if arg >= ARG._POST_OP:
        return f"post_op[{arg // ARG._POST_OP - 1}]"
    return _ARG_NAMES.get(arg, str(arg))


def lookup(table: dict[str, int], name: str, what: str) -> int:
    """table[name]; ArgumentError naming near misses where it is not there."""
    try:
        return table[name]
    except (KeyError, TypeError):
        hint = nearest(str(name), table)
        raise ArgumentError(f"oneDNN has no {what} {name!r}", got=repr(name), hint=hint) from None
