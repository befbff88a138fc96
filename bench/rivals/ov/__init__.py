"""The workloads in OpenVINO; one module a family, each with `MAKERS`."""
