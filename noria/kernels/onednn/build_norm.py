"""Builders of batch and layer normalisation.

scale, shift, mean and variance (biased: divided by the count) are dense float32 vectors.
"""

from __future__ import annotations

from noria.kernels.onednn.attr import PLAIN, Attr
from noria.kernels.onednn.checks import need_one_layout
from noria.kernels.onednn.enums import (
    ARG,
    BACKWARD,
    BACKWARD_DATA,
    FORWARD_INFERENCE,
    FORWARD_TRAINING,
    FUSE_RELU,
    USE_GLOBAL_STATS,
    USE_SCALE,
    USE_SHIFT,
)
from noria.kernels.onednn.lib import library
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.primitive import Primitive, create, remembered


def batch_norm_forward(
    src: MemDesc,
    dst: MemDesc,
    epsilon: float,
    attr: Attr = PLAIN,
    *,
    use_scale: bool = True,
    use_shift: bool = True,
    use_global_stats: bool = False,
    fuse_relu: bool = False,
    training: bool = False,
) -> Primitive:
    """dst = (src - mean) / sqrt(variance + epsilon) * scale + shift, per channel of [N, C, ...].

    MEAN and VARIANCE [C] are inputs with use_global_stats, outputs when training without it, and
    otherwise not there. fuse_relu puts relu behind; when training it also writes WORKSPACE.
    """
    flags = _flags(use_scale, use_shift, use_global_stats) | (FUSE_RELU if fuse_relu else 0)
    return remembered(_batch_norm, src, dst, epsilon, flags, attr, training)


def _batch_norm(
    src: MemDesc, dst: MemDesc, epsilon: float, flags: int, attr: Attr, training: bool
) -> Primitive:
    prop = FORWARD_TRAINING if training else FORWARD_INFERENCE
    given = (library().engine, prop, src, dst, epsilon, flags)
    args = (ARG.SRC, *_statistics(flags, training), *_affine(flags), ARG.DST)
    function = "batch_normalization_forward"
    primitive = create("batch_norm", function, given, args, attr=attr, detail=f"flags={flags:#x}")
    return need_one_layout(primitive, ARG.SRC, ARG.DST, max_rank=5)


def batch_norm_backward(
    src: MemDesc,
    diff_dst: MemDesc,
    diff_src: MemDesc,
    epsilon: float,
    *,
    use_scale: bool = True,
    use_shift: bool = True,
    use_global_stats: bool = False,
    fuse_relu: bool = False,
) -> Primitive:
    """diff_src, DIFF_SCALE and DIFF_SHIFT (where used) from src, MEAN, VARIANCE and diff_dst.

    With fuse_relu it reads the WORKSPACE of the forward primitive, so src must have the layout it
    had there and diff_dst that of dst.
    """
    flags = _flags(use_scale, use_shift, use_global_stats) | (FUSE_RELU if fuse_relu else 0)
    return remembered(_batch_norm_backward, src, diff_dst, diff_src, epsilon, flags)


def _batch_norm_backward(
    src: MemDesc, diff_dst: MemDesc, diff_src: MemDesc, epsilon: float, flags: int
) -> Primitive:
    hint = remembered(_batch_norm, src, diff_dst, epsilon, flags, PLAIN, True)
    prop = BACKWARD if flags & (USE_SCALE | USE_SHIFT) else BACKWARD_DATA
    given = (library().engine, prop, diff_src, diff_dst, src, epsilon, flags, hint.desc)
    scale = (ARG.SCALE,) * bool(flags & USE_SCALE)  # layer norm takes shift too
    args = (ARG.SRC, ARG.MEAN, ARG.VARIANCE, ARG.DIFF_DST, *scale, *_gradients(flags))
    function = "batch_normalization_backward"
    primitive = create("batch_norm_backward", function, given, args, detail=f"flags={flags:#x}")
    return need_one_layout(primitive, ARG.SRC, ARG.DIFF_DST, ARG.DIFF_SRC, max_rank=5)


def layer_norm_forward(
    src: MemDesc,
    dst: MemDesc,
    epsilon: float,
    attr: Attr = PLAIN,
    *,
    use_scale: bool = True,
    use_shift: bool = True,
    use_global_stats: bool = False,
    training: bool = False,
) -> Primitive:
    """dst = (src - mean) / sqrt(variance + epsilon) * scale + shift, over the last of 2 to 5 dims.

    scale and shift are [last dim]; MEAN and VARIANCE, of src's other dims and dense, are inputs
    with use_global_stats, outputs when training without it, and otherwise not there.
    """
    flags = _flags(use_scale, use_shift, use_global_stats)
    return remembered(_layer_norm, src, dst, epsilon, flags, attr, training)


def _layer_norm(
    src: MemDesc, dst: MemDesc, epsilon: float, flags: int, attr: Attr, training: bool
) -> Primitive:
    prop = FORWARD_TRAINING if training else FORWARD_INFERENCE
    given = (library().engine, prop, src, dst, _row_statistics(src), epsilon, flags)
    args = (ARG.SRC, *_statistics(flags, training), *_affine(flags), ARG.DST)
    function = "layer_normalization_forward"
    primitive = create("layer_norm", function, given, args, attr=attr, detail=f"flags={flags:#x}")
    return need_one_layout(primitive, ARG.SRC, ARG.DST, max_rank=5)


def layer_norm_backward(
    src: MemDesc,
    diff_dst: MemDesc,
    diff_src: MemDesc,
    epsilon: float,
    *,
    use_scale: bool = True,
    use_shift: bool = True,
    use_global_stats: bool = False,
) -> Primitive:
    """diff_src, DIFF_SCALE and DIFF_SHIFT (where used) from src, MEAN, VARIANCE and diff_dst."""
    flags = _flags(use_scale, use_shift, use_global_stats)
    return remembered(_layer_norm_backward, src, diff_dst, diff_src, epsilon, flags)


def _layer_norm_backward(
    src: MemDesc, diff_dst: MemDesc, diff_src: MemDesc, epsilon: float, flags: int
) -> Primitive:
    hint = remembered(_layer_norm, src, diff_dst, epsilon, flags, PLAIN, True)
    prop = BACKWARD if flags & (USE_SCALE | USE_SHIFT) else BACKWARD_DATA
    statistics = _row_statistics(src)
    given = (library().engine, prop, diff_src, diff_dst, src, statistics, epsilon, flags, hint.desc)
    args = (ARG.SRC, ARG.MEAN, ARG.VARIANCE, ARG.DIFF_DST, *_affine(flags), *_gradients(flags))
    function = "layer_normalization_backward"
    primitive = create("layer_norm_backward", function, given, args, detail=f"flags={flags:#x}")
    return need_one_layout(primitive, ARG.SRC, ARG.DIFF_DST, ARG.DIFF_SRC, max_rank=5)


def _flags(use_scale: bool, use_shift: bool, use_global_stats: bool) -> int:
    return use_scale * USE_SCALE | use_shift * USE_SHIFT | use_global_stats * USE_GLOBAL_STATS


def _statistics(flags: int, training: bool) -> tuple[int, ...]:
    return (ARG.MEAN, ARG.VARIANCE) if training or flags & USE_GLOBAL_STATS else ()


def _affine(flags: int) -> tuple[int, ...]:
    return (ARG.SCALE,) * bool(flags & USE_SCALE) + (ARG.SHIFT,) * bool(flags & USE_SHIFT)


def _gradients(flags: int) -> tuple[int, ...]:
    scale = (ARG.DIFF_SCALE,) * bool(flags & USE_SCALE)
    return (*scale, *(ARG.DIFF_SHIFT,) * bool(flags & USE_SHIFT), ARG.DIFF_SRC)


def _row_statistics(src: MemDesc) -> MemDesc | None:
    """Mean and variance of layer norm; without a dim left for them oneDNN is to refuse src."""
    return MemDesc(src.dims[:-1], "float32") if len(src.dims) > 1 else None
