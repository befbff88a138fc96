from tests.runtime.profiling.machine import machine as machine
