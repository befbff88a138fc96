"""Programs of Fluid written step by step, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.fluid.reader import read_program
from noria.convert.messages import schema
from noria.runtime.executor import Executor
from noria.testing.vectors_fluid import add_attribute

BLOCK = 8  # the type of an attribute that names a block


class Desc:
    """A ProgramDesc. `block` says where variables and operators go: 0 is the main one."""

    def __init__(self) -> None:
        self.message = schema("fluid").ProgramDesc()
        self.message.blocks.add(idx=0, parent_idx=-1)
        self.at = 0

    @property
    def block(self) -> Any:
        return self.message.blocks[self.at]

    def inner(self) -> Desc:
        """Begins a block inside the present one."""
        self.message.blocks.add(idx=len(self.message.blocks), parent_idx=self.at)
        self.at = len(self.message.blocks) - 1
        return self

    def outer(self) -> Desc:
        """Goes back to the block around the present one."""
        self.at = self.block.parent_idx
        return self

    def var(self, name, dims, *, levels=0, kept=False, dtype=5):
        var = self.block.vars.add(name=name, persistable=kept)
        var.type.type = 7
        var.type.lod_tensor.lod_level = levels
        var.type.lod_tensor.tensor.data_type = dtype
        var.type.lod_tensor.tensor.dims.extend(dims)
        return self

    def array(self, *names):
        for name in names:
            self.block.vars.add(name=name).type.type = 13
        return self

    def op(self, type, inputs, outputs, **attrs):
        """inputs, outputs: slot -> name or names; an attribute `sub_block` is a block's index."""
        step = self.block.ops.add(type=type)
        for slots, added in ((inputs, step.inputs), (outputs, step.outputs)):
            for slot, names in slots.items():
                listed = [names] if isinstance(names, str) else names
                added.add(parameter=slot, arguments=listed)
        for name, value in attrs.items():
            if name == "sub_block":
                step.attrs.add(name=name, type=BLOCK, block_idx=value)
            else:
                add_attribute(step, name, value, None)
        return self

    def number(self, name, value, dtype=3):
        """A constant, [1]."""
        return self.op("fill_constant", {}, {"Out": name}, shape=[1], value=value, dtype=dtype)

    def run(self, *outputs, **feeds):
        """What the variables hold in the end, `x.row_splits` the rows of x."""
        given = {n: np.asarray(a) for n, a in feeds.items()}
        wanted = [n for n in outputs if ".row_splits" not in n]
        program = read_program(self.message, outputs=wanted)
        got = Executor(program, threads=1).run({n: given[n] for n in program.inputs})
        return [got[n] for n in outputs] if len(outputs) > 1 else got[outputs[0]]
