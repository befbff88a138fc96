"""The other side of the pipe."""

import json
import subprocess
import sys

from noria.kernels.numba import cache, compiler, lower

GOOD = ["def kernel(args):\n    return 7\n", "kernel", "seven"]


def test_an_answer_is_what_compiling_here_gives():
    assert cache.decode(compiler._answer(*GOOD)) == lower.compile_object(*GOOD)


def test_a_source_that_does_not_compile_has_an_empty_answer():
    assert compiler._answer("def kernel(args):\n    return x\n", "kernel", "wrong") == b""


def test_it_answers_line_by_line_and_ends_with_the_pipe():
    wrong = ["def kernel(args):\n    return x\n", "kernel", "wrong"]
    lines = "".join(json.dumps(job) + "\n" for job in (wrong, GOOD))
    code = "from noria.kernels.numba.compiler import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], input=lines.encode(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    empty, length, rest = done.stdout[:8], done.stdout[8:16], done.stdout[16:]
    assert empty == bytes(8) and int.from_bytes(length, "little") == len(rest)
    assert cache.decode(rest) == lower.compile_object(*GOOD)
