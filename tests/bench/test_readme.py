from bench import readme, results


def test_the_tables_in_the_readme_are_those_of_the_last_run():
    text = readme.PATH.read_text()
    assert readme.replaced(text, readme.render(results.load())) == text, (
        "run python -m bench.readme"
    )


def test_only_what_is_between_the_marks_changes():
    text = f"a\n{readme.START}\nold\n{readme.END}\nb"
    once = readme.replaced(text, "new")
    assert once == f"a\n{readme.START}\n\nnew\n\n{readme.END}\nb"
    assert readme.replaced(once, "new") == once


def test_tables_of_a_run():
    engine = {"seconds": 1.0, "peak_rss_mb": 5.0, "compile_s": 0.5, "build_s": 0.0}
    about = {"date": "2026-01-02", "machine": "M", "threads": 2}
    part = {"value": 2.0, "unit": "s", "goal": 3, "lower_is_better": True}
    found = {
        "peaks": {"gemm_fp32": {"value": 400.0, "unit": "GFLOP/s", "by": "noria", **about}},
        "workloads": {"mlp_train": {"engines": {"noria": engine, "jax": {"failed": "x"}}, **about}},
        "parts": {"overhead": {**part, **about}},
    }
    text = readme.render(found)
    assert "2026-01-02, M, 2 threads. gemm_fp32: 400 GFLOP/s (noria)." in text
    assert "| mlp_train | 128 samples/s |" in text
    assert "| overhead | 2 s | ≤ 3 | reached |" in text
    assert "- mlp_train: jax failed: x" in text


def test_no_run_is_told():
    assert readme.render({"peaks": {}, "workloads": {}, "parts": {}}) == "No run yet."
