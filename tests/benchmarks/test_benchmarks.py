"""What the benchmarks conclude from what they measure."""

import importlib.metadata
import sys

import pytest

from benchmarks import against_tools, bench, measured, planted, with_harness
from benchmarks.measured import Cost, Target
from benchmarks.planted import Answer, Job
from harness.cases import case_files
from harness.devices.fault_plan import Fault, FaultPlan, plan_for

psutil = pytest.importorskip("psutil", reason="comes with the extra `bench`")


def cost(wall: float, processor: float = 1.0) -> Cost:
    return Cost(wall, processor, memory=2_000_000, disk=3_000_000, output="")


def test_a_process_and_what_it_starts_are_measured(tmp_path):
    script = (
        "import subprocess, sys, time\n"
        "open(sys.argv[1], 'wb').write(bytes(5000))\n"
        "child = 'import time; held = bytearray(80_000_000); print(len(held)); time.sleep(1)'\n"
        "subprocess.run([sys.executable, '-c', child], check=True)\n"
    )
    (tmp_path / "before").write_bytes(bytes(100))
    found = measured.run(measured.python("-c", script, str(tmp_path / "new")), tmp_path)
    assert found.output == "80000000\n"
    assert found.wall > 1.0
    assert 0 < found.processor < found.wall
    assert found.memory > 80_000_000
    assert found.disk == 5000


def test_a_process_that_fails_is_no_measurement(tmp_path):
    command = [sys.executable, "-c", "print('why'); raise SystemExit(3)"]
    with pytest.raises(measured.Failed, match="ended with 3:\nwhy"):
        measured.run(command, tmp_path)
    assert measured.run(command, tmp_path, codes=(3,)).output == "why\n"


def test_ratios_are_taken_within_a_round():
    # A slow minute meets both sides: each round's ratio is 2, that of the medians would be 4.
    found = measured.ratio([cost(2), cost(20), cost(4, 3)], [cost(1), cost(10), cost(2, 1)])
    assert found.wall == 2 and found.walls == (2, 2, 2)
    assert found.processor == 1
    with pytest.raises(ValueError, match="zip"):
        measured.ratio([cost(1)], [])


def test_a_target_is_met_up_to_its_limit():
    assert Target("a", 1.25, 1.25).met
    missed = Target("a", 1.251, 1.25, " s", "how")
    assert not missed.met
    assert missed.row == ("a", "1.25 s", "1.25 s", "NO", "how")


@pytest.mark.parametrize(("text", "found"), [("a", "a"), ("c,d", "cd"), ("ef", "ef")])
def test_parts_are_chosen(text, found):
    assert bench.parts(text) == found


@pytest.mark.parametrize("text", ["", ",", "x", "a,z"])
def test_parts_that_do_not_exist(text):
    with pytest.raises(bench.argparse.ArgumentTypeError, match="does not name parts"):
        bench.parts(text)


def test_tools_are_chosen():
    assert bench.tools("msprobe,harness") == ["msprobe", "harness"]
    with pytest.raises(bench.argparse.ArgumentTypeError, match="no tool 'x'"):
        bench.tools("harness,x")


def test_a_thousand_cases_are_a_thousand(tmp_path):
    path = bench.own_cost.case_file(tmp_path / "cases.toml", bench.own_cost.CASES)
    assert len({case.id for case in case_files.read(path)}) == 1000


OPERATORS = {"Convolution": 81, "BatchNorm": 49, "Silu": 49, "Addmm": 1, "Sigmoid": 16}


def test_every_chosen_fault_exists_and_can_be_planted():
    jobs = planted.faults(OPERATORS)
    assert len({job.name for job in jobs}) == len(planted.CHOSEN) + 1
    assert all(plan_for(job.plan) for job in jobs)
    assert [job.plan for job in planted.honest((0, 1))] == [None] * 4


@pytest.mark.slow
def test_a_planted_fault_is_not_laid_to_the_runs_after_it(tiny_model, tmp_path):
    nan = FaultPlan((Fault("nan_output", "Convolution", first=1),)).to_json()
    jobs = [Job("honest"), Job("dead", plan=nan), Job("honest")]
    answers = with_harness.work(tiny_model, tmp_path, tmp_path, jobs)
    assert [one.caught for one in answers] == [False, True, False]
    assert "fail_nan" in answers[1].said


def test_the_tables_say_what_each_tool_caught_and_its_false_alarms(monkeypatch):
    # The tools are in an extra of their own, which tests do without.
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    faults = [Job("dead", plan="{}"), Job("noise", plan="{}")]
    answers = {
        "polygraphy": [
            Answer("dead", "strict", 0, True, "accuracy failed"),
            Answer("noise", "strict", 0, False, "passed"),
            Answer("honest", "strict", 0, False, "passed"),
            Answer("honest", "default", 0, True, "accuracy failed"),
            Answer("honest", "default", 1, True, "accuracy failed"),
        ]
    }
    costs = {"polygraphy": [cost(3.0), cost(5.0), cost(4.0)]}
    text = against_tools.render(costs, answers, faults, " [EMULATED]")
    name = against_tools.TOOLS["polygraphy"].name
    assert f"| {name} | 4.0 | 1.0 | 2 | 3.0 | 1 of 2 | 0 of 1 | 2 of 2 |" in text
    assert "| dead | caught: accuracy failed |" in text
    assert "| noise | MISSED: passed |" in text
    assert "| none, strict, images 0 | quiet: passed |" in text
    assert "| none, HF32, images 1 | ALARM: accuracy failed |" in text
    assert text.count("[EMULATED]") == 2


def test_the_harness_counts_twice():
    names = ["harness", "polygraphy"]
    assert against_tools.cost_rows(names) == ["harness, cold", "harness, warm", "polygraphy"]
