"""The workloads in noria; one module a family, each with `MAKERS`."""
