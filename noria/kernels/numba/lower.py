"""Kernel source to object code: Numba's front end, then LLVM, with everything else left out.

A kernel needs no boxing, no reference counts, no exceptions and no array support, so the passes and
the registries for them are not loaded: a kernel takes some 50 ms instead of some 100, the first one
0.2 s instead of 0.9 s. This is the only module (with `intrinsics` and `math`) that imports Numba;
it is imported when a kernel is not in the cache.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import codegen, compiler, cpu, funcdesc, lowering, types, typing
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
from numba.core.typed_passes import IRLegalization, NopythonTypeInference, PreLowerStripPhis
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

from noria.kernels.numba import intrinsics, loops, math
from noria.kernels.numba.expr import I32, I64
from noria.kernels.numba.target import target_machine

# NaN, infinities and the sign of a result must hold: neither nnan nor ninf. reassoc and nsz are
# what a reduction needs to become vectors, contract gives fused multiply-add.
FAST = ("reassoc", "nsz", "contract")
_FLOAT_ARITHMETIC = {"fadd", "fsub", "fmul", "fdiv", "frem", "fneg"}
