"""Every family of ops: importing this module fills the registry."""

import noria.ops.activation
import noria.ops.adaptive_pool
import noria.ops.alignment
import noria.ops.attention
import noria.ops.batch_norm
import noria.ops.beam
import noria.ops.bitwise
import noria.ops.click_rate
import noria.ops.columns
import noria.ops.compare
import noria.ops.control
import noria.ops.conv
import noria.ops.create
import noria.ops.crf
import noria.ops.ctc
import noria.ops.ctc_decode
import noria.ops.detection.average_precision
import noria.ops.detection.keypoints
import noria.ops.detection.levels
import noria.ops.detection.masks
import noria.ops.detection.matching
import noria.ops.detection.nms
import noria.ops.detection.priors
import noria.ops.detection.proposals
import noria.ops.detection.pyramid
import noria.ops.detection.roi
import noria.ops.detection.roi_bins
import noria.ops.detection.roi_deformed
import noria.ops.detection.roi_sampled
import noria.ops.detection.soft_nms
import noria.ops.detection.targets
import noria.ops.detection.yolo
import noria.ops.elementwise
import noria.ops.embedding
import noria.ops.fourier
import noria.ops.fused
import noria.ops.fused_bag
import noria.ops.fused_convs
import noria.ops.fused_norm
import noria.ops.fused_product
import noria.ops.hashing
import noria.ops.image
import noria.ops.index
import noria.ops.join
import noria.ops.linalg
import noria.ops.lookup
import noria.ops.loop_ops
import noria.ops.loss
import noria.ops.masked_grad
import noria.ops.matrix
import noria.ops.max_places
import noria.ops.metric
import noria.ops.norm
import noria.ops.norm_pair
import noria.ops.normed_conv
import noria.ops.order
import noria.ops.patches
import noria.ops.pool
import noria.ops.pooled_conv
import noria.ops.pooled_norm
import noria.ops.quantize
import noria.ops.ragged
import noria.ops.random
import noria.ops.ranking
import noria.ops.recurrent
import noria.ops.reduce
import noria.ops.reset_gru
import noria.ops.resizing
import noria.ops.sampled
import noria.ops.sampling
import noria.ops.scatter
import noria.ops.sequence
import noria.ops.shape
import noria.ops.slicing
import noria.ops.sweep
import noria.ops.taken
import noria.ops.trigonometry
import noria.ops.update
import noria.ops.weight_grads

FAMILIES = (
    "activation",
    "adaptive_pool",
    "alignment",
    "attention",
    "batch_norm",
    "beam",
    "bitwise",
    "click_rate",
    "columns",
    "compare",
    "control",
    "conv",
    "create",
    "crf",
    "ctc",
    "detection.average_precision",
    "detection.keypoints",
    "detection.levels",
    "detection.masks",
    "detection.matching",
    "ctc_decode",
    "detection.nms",
    "detection.priors",
    "detection.proposals",
    "detection.pyramid",
    "detection.roi",
    "detection.roi_bins",
    "detection.roi_deformed",
    "detection.roi_sampled",
    "detection.soft_nms",
    "detection.targets",
    "detection.yolo",
    "elementwise",
    "embedding",
    "fourier",
    "fused",
    "fused_bag",
    "fused_convs",
    "fused_norm",
    "fused_product",
    "hashing",
    "image",
    "index",
    "join",
    "linalg",
    "lookup",
    "loop_ops",
    "loss",
    "masked_grad",
    "matrix",
    "max_places",
    "metric",
    "norm",
    "norm_pair",
    "normed_conv",
    "order",
    "patches",
    "pool",
    "pooled_conv",
    "pooled_norm",
    "quantize",
    "ragged",
    "random",
    "ranking",
    "recurrent",
    "reduce",
    "reset_gru",
    "resizing",
    "sampled",
    "sampling",
    "scatter",
    "sequence",
    "shape",
    "slicing",
    "sweep",
    "taken",
    "trigonometry",
    "update",
    "weight_grads",
)

__all__ = ["FAMILIES", "noria"]
