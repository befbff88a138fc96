"""The workloads in JAX; one module a family, each with `MAKERS`."""
