"""All handlers, by family: importing this module registers them."""

# ruff: noqa: F401
import noria.convert.fluid.activation
import noria.convert.fluid.arrays
import noria.convert.fluid.channels
import noria.convert.fluid.control
import noria.convert.fluid.conv
import noria.convert.fluid.create
import noria.convert.fluid.detection
import noria.convert.fluid.fused
import noria.convert.fluid.index
import noria.convert.fluid.linalg
import noria.convert.fluid.loss
import noria.convert.fluid.matching
import noria.convert.fluid.math
import noria.convert.fluid.metric
import noria.convert.fluid.norm
import noria.convert.fluid.optimizer
import noria.convert.fluid.proposals
import noria.convert.fluid.quantize
import noria.convert.fluid.ranking
import noria.convert.fluid.recurrent
import noria.convert.fluid.reduce
import noria.convert.fluid.regions
import noria.convert.fluid.sampling
import noria.convert.fluid.sequences
import noria.convert.fluid.shape
import noria.convert.fluid.structured
import noria.convert.fluid.suppression
import noria.convert.fluid.tables
import noria.convert.fluid.unsupported
import noria.convert.fluid.vision
