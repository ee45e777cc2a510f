def test_the_option_measures_and_reports(harness_run, tiny_model):
    cases = f'[[case]]\ndirectory = "{tiny_model}"\ninputs = ["synthetic"]\n'
    done = harness_run(
        "--device", "cpu", "--sensitivity", "--numerics", "strict", "--dtype", "float16",
        cases=cases,
    )  # fmt: skip
    assert done.code == 0, done.text
    (case,) = done.run.cases
    assert case.sensitivity.effective > 50
    # float16's own noise hides some faults: the number is reported, not rounded away.
    assert 0 <= case.sensitivity.missed < case.sensitivity.effective / 4
    assert f"this harness {case.sensitivity.missed} (" in done.text
    assert "hooks on the CPU, in the arithmetic of cpu" in done.text
