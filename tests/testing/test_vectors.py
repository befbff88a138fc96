import json

import numpy as np

from noria.testing.vectors import main, run


def write(folder):
    cases = [
        {
            "kind": "output",
            "op": op,
            "id": f"case {op}",
            "attrs": {},
            "inputs": {"X": {"a": "x"}, "Y": {"a": "x"}},
            "expect": {"Out": {"a": "y"}},
            "atol": 1e-6,
        }
        for op in ("elementwise_add", "elementwise_mul", "unheard_of")
    ]
    (folder / "cases.jsonl").write_text("".join(json.dumps(c) + "\n" for c in cases))
    np.savez(folder / "arrays.npz", x=np.ones(3, np.float32), y=np.full(3, 2, np.float32))


def test_a_folder_is_judged_and_failures_have_reasons(tmp_path):
    write(tmp_path)
    (result,) = run(tmp_path, jobs=1).values()
    assert (result.passed, result.total) == (1, 3)
    reasons = {f["name"]: f["reason"] for f in result.failed}
    assert "expected 2" in reasons["elementwise_mul: case elementwise_mul"]
    assert "unheard_of" in reasons["unheard_of: case unheard_of"]


def test_the_command_prints_and_writes_the_results(tmp_path, capsys):
    write(tmp_path)
    out = tmp_path / "out.json"
    assert main([str(tmp_path), "--op", "elementwise_add", "--json", str(out), "-j", "1"]) == 0
    assert "fluid forward: 1 of 1" in capsys.readouterr().out
    assert json.loads(out.read_text())["fluid forward"]["passed"] == 1
    assert main([str(tmp_path), "-j", "1"]) == 1
