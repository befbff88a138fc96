"""Arena of ResNet-50 training over the sum of all values of the Program as built."""

import json
from math import prod

import numpy as np

from bench import data
from bench.noria_side.vision import training_program
from noria.core.dims import evaluate
from noria.core.dtypes import itemsize
from noria.ir.opdef import lookup
from noria.runtime.executor import Executor


def main() -> None:
    program = training_program("resnet50_train_fp32")
    x, y = data.classified("resnet50_train_fp32")
    bound = Executor(program).bound({"image": x, "label": y}, ["loss"])
    sizes = {"N": len(x)}
    total = 0
    for op in program.operators:
        views = lookup(op.type).views
        for i, v in enumerate(op.outputs):
            if i not in views:
                total += prod(evaluate(d, sizes) for d in v.shape) * itemsize(v.dtype)
    share = bound.arena_bytes / total
    assert np.isfinite(share)
    print(json.dumps({"share": share, "arena_mb": bound.arena_bytes / 1e6, "all_mb": total / 1e6}))


if __name__ == "__main__":
    main()
