"""Kernel source to object code: Numba's front end, then LLVM, with everything else left out.

A kernel needs no boxing, no reference counts, no exceptions and no arrays, so the passes and the
registries for them are not loaded; that halves the time of a kernel and spares most of a second at
the first one. Only this module and those it imports know Numba: they are imported when a kernel is
not in the cache.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import codegen, compiler, cpu, funcdesc, lowering, target_extension, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
from numba.core.typed_passes import IRLegalization, NopythonTypeInference, PreLowerStripPhis
from numba.core.typing import templates
from numba.core.typing.context import BaseContext
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

from noria.core.errors import EngineError
from noria.kernels.numba import (
    conv_tiles,
    depthwise_tiles,
    intrinsics,
    loops,
    math,
    pooled_tiles,
    spread_tiles,
    taken_tiles,
    tiles,
    winograd_tiles,
)
from noria.kernels.numba.expr import I32, I64
from noria.kernels.numba.loader import ObjectCode, target_machine, undefined

# NaN, infinities, signed zeros and the rounding of a division must hold: no nnan, ninf, nsz, arcp,
# afn. reassoc lets a reduction become vectors, contract gives fused multiply-add.
FAST = ("reassoc", "contract")
_ARITHMETIC = {"fadd", "fsub", "fmul", "fdiv", "frem"}
_SCALARS = ("boolean", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NAMESPACE: dict[str, Any] = {
    **intrinsics.NAMESPACE,
    **math.NAMESPACE,
    **tiles.NAMESPACE,
    **winograd_tiles.NAMESPACE,
    **depthwise_tiles.NAMESPACE,
    **conv_tiles.NAMESPACE,
    **pooled_tiles.NAMESPACE,
    **spread_tiles.NAMESPACE,
    **taken_tiles.NAMESPACE,
    **{name: getattr(types, name) for name in (*_SCALARS, "float32", "float64")},
}


@global_compiler_lock
def compile_object(source: str, entry: str, symbol: str) -> ObjectCode:
    """Compiles function `entry` of `source` under the C name `symbol`, `int64 symbol(int64)`.

    Raises EngineError when the source is wrong or uses what kernels have not.
    """
    code = target_machine().emit_object(optimise(source, entry, symbol))
    return ObjectCode(symbol, undefined(code), code)


@global_compiler_lock
def assembly(source: str, entry: str) -> str:
    """The machine code of a kernel, to be read."""
    return target_machine().emit_assembly(optimise(source, entry, entry))


@global_compiler_lock
def optimise(source: str, entry: str, symbol: str) -> llvm.ModuleRef:
    """The LLVM module of a kernel after all passes."""
    try:
        library, text = _front_end(_function(source, entry), symbol)
    except Exception as error:  # whatever Numba trips over, the source is at fault
        raise _failure(source, entry, error) from error
    module = llvm.parse_assembly(text)
    for other in library.linked():
        module.link_in(other, preserve=True)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = True
    builder = llvm.create_pass_builder(target_machine(), tuning)
    builder.getModulePassManager().run(module, builder)
    return module


def _function(source: str, entry: str) -> Any:
    scope = dict(NAMESPACE)
    exec(compile(source, f"<kernel {entry}>", "exec"), scope)
    return scope[entry]


def _failure(source: str, entry: str, error: Exception) -> EngineError:
    lines = "\n".join(f"{n:4} {line}" for n, line in enumerate(source.splitlines(), 1))
    return EngineError(
        f"cannot compile kernel '{entry}'",
        where=f"this source\n{lines}",
        got=str(error).strip() or repr(error),
    )


def _is_python(template: type) -> bool:
    """Is it something that Numba implements in Python, to be compiled with the kernel?"""
    python = templates._OverloadFunctionTemplate, templates._OverloadAttributeTemplate
    return any(t in template.__mro__ for t in python)  # issubclass of an ABC takes seconds in all


class _Typing(BaseContext):
    """Types of numbers, ranges and what `intrinsics` and `math` define."""

    @functools.cached_property
    def _registry(self) -> templates.Registry:
        """Numba's built-in typing, less what is written in Python: that needs its whole target."""
        from numba.core.typing import builtins  # noqa: F401 (registers)

        slim, full = templates.Registry(), templates.builtin_registry
        slim.functions = [f for f in full.functions if not _is_python(f)]
        slim.attributes = [a for a in full.attributes if not _is_python(a)]
        slim.globals = [
            (value, type_)
            for value, type_ in full.globals
            if not any(map(_is_python, getattr(type_, "templates", ())))
        ]
        return slim

    def _load_builtins(self) -> None:
        self.install_registry(self._registry)


class _Target(cpu.CPUContext):
    def load_additional_registries(self) -> None:
        from numba.cpython import builtins, mathimpl, numbers, rangeobj, tupleobj  # noqa: F401

        self.install_registry(mathimpl.registry)  # floor, behind // and % of floats

    def post_lowering(self, mod: ir.Module, library: Any) -> None:
        for function in mod.functions:
            for block in function.blocks:
                for i in block.instructions:
                    if i.opname in _ARITHMETIC and not getattr(i, "exact", False):
                        i.flags.extend(FAST)


class _Library(codegen.JITCodeLibrary):
    """Collects what lowering writes instead of optimising and loading it."""

    def __init__(self, owner: Any, name: str) -> None:
        codegen.CodeLibrary.__init__(self, owner, name)
        self._linking_libraries: list[Any] = []
        self.modules: list[ir.Module] = []

    def add_ir_module(self, ir_module: ir.Module) -> None:
        self.modules.append(ir_module)

    def linked(self) -> list[llvm.ModuleRef]:
        """Helpers of Numba's own that the kernel calls."""
        return [other._get_module_for_linking() for other in dict.fromkeys(self._linking_libraries)]


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(LoweringPass):
    """Numba's typed IR to LLVM IR, without wrappers for Python."""

    _name = "noria_lowering"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        context = state.targetctx
        library = _Library(context.codegen(), state.func_id.func_qualname)
        description = funcdesc.PythonFunctionDescriptor.from_specialized_function(
            state.func_ir,
            state.typemap,
            state.return_type,
            state.calltypes,
            mangler=context.mangler,
            inline=True,
            noalias=False,
            abi_tags=[],
        )
        with context.push_code_library(library):
            lowering.Lower(
                context, library, description, state.func_ir, metadata=state.metadata
            ).lower()
        state["cr"] = library, description
        return True


class _Pipeline(compiler.CompilerBase):
    PASSES = (
        TranslateByteCode,
        FixupArgs,
        IRProcessing,
        ReconstructSSA,
        NopythonTypeInference,
        PreLowerStripPhis,
        IRLegalization,
        _Lowering,
    )

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("noria")
        for step in self.PASSES:
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


class _NoriaTarget(target_extension.CPU):
    """A target of its own, so that Numba asks `_Target` and never its full CPU target."""


@functools.cache
def _contexts() -> tuple[_Typing, _Target, Any]:
    typing = _Typing()
    target_extension.target_registry["noria"] = _NoriaTarget
    target = _Target(typing, "noria")
    descriptor = SimpleNamespace(targetdescr=SimpleNamespace(target_context=target))
    target_extension.dispatcher_registry[_NoriaTarget] = descriptor
    flags: Any = compiler.Flags()
    flags.error_model = "numpy"  # division by zero is inf or NaN, not a branch
    flags.enable_ssa = True
    flags.nrt = False
    return typing, target, flags


def _front_end(function: Any, symbol: str) -> tuple[_Library, str]:
    """The LLVM text of the function under its C name, and the library with what it calls."""
    typing, target, flags = _contexts()
    pipeline = _Pipeline(typing, target, None, (types.int64,), types.int64, flags, {})
    library, description = pipeline.compile_extra(function)
    (module,) = library.modules
    kernel = module.globals[description.llvm_func_name]
    module.globals[description.env_name].linkage = "internal"  # for Python objects; goes unused
    nodes = loops.annotate(kernel, intrinsics.MARKS)
    _add_entry(module, kernel, symbol)
    return library, f"{module}\n{nodes}\n"


def _add_entry(module: ir.Module, kernel: ir.Function, symbol: str) -> None:
    """`int64 symbol(int64)` around Numba's convention: status kernel(result *, error **, int64)."""
    kernel.linkage = "internal"
    kernel.attributes.add("alwaysinline")
    entry = ir.Function(module, ir.FunctionType(I64, [I64]), symbol)
    for function in (kernel, entry):
        function.attributes.add("nounwind")
    builder = ir.IRBuilder(entry.append_basic_block())
    result_type, error_type = (argument.type.pointee for argument in kernel.args[:2])
    result, error = builder.alloca(result_type), builder.alloca(error_type)
    status = builder.call(kernel, [result, error, entry.args[0]])
    failed = builder.icmp_unsigned("!=", status, ir.Constant(I32, 0))
    builder.ret(builder.select(failed, ir.Constant(I64, 1), builder.load(result)))
