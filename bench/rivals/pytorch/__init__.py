"""The workloads in PyTorch, eager and compiled; one module a family, each with `MAKERS`."""
