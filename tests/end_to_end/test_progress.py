from tests.makers.cases import entry


def test_a_run_says_how_far_it_is_unless_it_is_to_be_quiet(harness_run, copy_of):
    cases = entry(copy_of("a"))
    done = harness_run("--device", "cpu", cases=cases)
    assert "1 of 1 cases; all passed; " in done.text
    assert "1 of 1 cases" not in harness_run("--device", "cpu", "-q", cases=cases).text
