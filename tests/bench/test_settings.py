import sys

from bench import environments, settings
from bench.workloads import ENGINES, NORIA, PEAKS, WORKLOADS, family_of


def test_rivals_see_neither_norias_packages_nor_its_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/noria")
    for engine in ENGINES:
        found = settings.child_environment(engine, tmp_path)
        assert ("PYTHONPATH" in found) == (engine == NORIA)
        assert ("NORIA_CACHE" in found) == (engine == NORIA)
        assert found["OMP_NUM_THREADS"] == "2"


def test_each_rival_runs_in_its_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NORIA_BENCH_ENVS", str(tmp_path))
    assert settings.command(NORIA, "x")[0] == sys.executable
    assert settings.command("jax", "x")[0] == str(tmp_path / "jax" / "bin" / "python")
    assert settings.command("torch", "x")[0] == settings.command("torch_compiled", "x")[0]


def test_an_environment_is_made_anew_when_its_requirements_change(monkeypatch, tmp_path):
    needs = tmp_path / "envs"
    needs.mkdir()
    (needs / "jax.txt").write_text("jax==1")
    monkeypatch.setattr(environments, "REQUIREMENTS", needs)
    monkeypatch.setenv("NORIA_BENCH_ENVS", str(tmp_path))
    assert not environments.is_ready("jax")
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "made-from").write_text(environments.fingerprint("jax"))
    assert environments.is_ready("jax") and environments.is_ready(NORIA)
    (needs / "jax.txt").write_text("jax==2")
    assert not environments.is_ready("jax")


def test_every_engine_has_requirements_and_a_package():
    root = environments.HERE.parent
    for engine in ENGINES.values():
        assert (root / engine.package.replace(".", "/")).is_dir()
        needs = environments.REQUIREMENTS / f"{engine.environment}.txt"
        assert needs.is_file() or engine.environment == NORIA


def test_every_rival_of_a_workload_has_a_module_of_its_family():
    root = environments.HERE.parent
    for workload in WORKLOADS.values():
        for rival in workload.rivals:
            package = root / ENGINES[rival].package.replace(".", "/")
            text = (package / f"{workload.family}.py").read_text()
            assert f'"{workload.name}"' in text or f'makers("{workload.family}")' in text
    assert {family_of(p) for p in PEAKS} == {"peak"}
