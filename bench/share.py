"""How much of a training step of ResNet-50 are its convolutions and products themselves, each timed
as a step of the tape, weights packed: `python -m bench.share WORKLOAD`. Prints JSON."""

import json
import sys

from bench import data
from bench.noria_side.vision import training_program
from noria.runtime.executor import Executor
from noria.runtime.profiling.profile import profile

PRODUCTS = (
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "linear",
    "masked_input_grad",
    "matmul",
    "normed_conv2d",
    "normed_conv2d_weight_grad",
)


def main() -> None:
    workload = sys.argv[1]
    x, y = data.classified(workload)
    precision = "bf16" if workload.endswith("bf16") else None
    executor = Executor(training_program(workload), precision=precision)
    found = profile(executor, {"image": x, "label": y}, ["loss"])
    own = sum(row.seconds for row in found.rows if row.op in PRODUCTS)
    print(json.dumps({"share": own / found.accounted}))


if __name__ == "__main__":
    main()
