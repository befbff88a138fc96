"""The workloads in PaddlePaddle 3; one module a family, each with `MAKERS`."""
