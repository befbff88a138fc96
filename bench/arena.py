"""Arena of ResNet-50 training over the sum of all values of the Program as built: with everything
kept that the backward part reads, and with a bound on that. Prints JSON."""

import json
from math import prod
from typing import Any

from bench import data
from bench.noria_side.vision import RESNET, budget, training_program
from noria.core.dims import evaluate
from noria.core.dtypes import itemsize
from noria.ir.opdef import lookup
from noria.runtime.executor import Executor


def all_bytes(program: Any, batch: int) -> int:
    """Of all values that operators make."""
    total = 0
    for op in program.operators:
        views = lookup(op.type).views
        for i, v in enumerate(op.outputs):
            if i not in views:
                total += prod(evaluate(d, {"N": batch}) for d in v.shape) * itemsize(v.dtype)
    return total


def main() -> None:
    x, y = data.classified(RESNET)
    built = training_program(RESNET)
    total = all_bytes(built, len(x))
    shares = {}
    for name, program in (("kept", built), ("recompute", training_program(RESNET, budget()))):
        bound = Executor(program).bound({"image": x, "label": y}, ["loss"])
        shares[name] = bound.arena_bytes / total
    print(json.dumps(shares))


if __name__ == "__main__":
    main()
