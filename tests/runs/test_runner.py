"""A case in order: fallbacks, unstable outputs, references made once."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.devices.device import Counters
from harness.devices.spec import DeviceSpec
from harness.execution import sides
from harness.execution.legs import LegRequest
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.records import results_file
from harness.records.throughput import ThroughputPlan
from harness.runs.runner import CaseRunner
from harness.system.files import ROOT
from harness.system.status import Status


@pytest.mark.parametrize(("allowed", "statuses"), [(False, [Status.FAIL_FALLBACK]), (True, [])])
def test_a_fallback_fails_the_case_unless_it_is_allowed(tmp_path, allowed, statuses):
    settings = RunSettings(DeviceSpec("cpu"), tmp_path, allow_cpu_fallback=allowed)
    leg = SimpleNamespace(
        unstable=(), undeclared=(), record=SimpleNamespace(fallback_operators=["aten::x"])
    )
    findings = Sides(settings)._leg_findings(leg, leg)
    assert [finding.status for finding in findings] == statuses


def test_unstable_outputs_are_flaky(tmp_path):
    both = Sides(RunSettings(DeviceSpec("cpu"), tmp_path))
    record = SimpleNamespace(fallback_operators=[])
    stable = SimpleNamespace(unstable=(), undeclared=(), record=record)
    unstable = SimpleNamespace(unstable=("output",), undeclared=(), record=record)
    assert [f.status for f in both._leg_findings(stable, unstable)] == [Status.FLAKY]
    assert [f.status for f in both._leg_findings(unstable, stable)] == [Status.FAIL_REFERENCE]


def test_a_kind_that_saw_only_its_linear_range_is_noted(cache_dir, monkeypatch):
    both = Sides(RunSettings(DeviceSpec("cpu"), cache_dir))
    model = ModelSource("architecture", "test_vit", num_classes=10)
    request = both.request(Case(model, InputSource("synthetic")))
    leg = both.cpu.reference(request)
    ranges = {one.operator: one for one in leg.record.ranges}
    assert set(ranges) == {"softmax", "gelu"} and ranges["gelu"].calls == 6
    assert not [note for note in both.judge(request, leg).notes if "nearly linear" in note]
    # The same leg of a model whose GELUs get little more than zero.
    little = dataclasses.replace(ranges["gelu"], rms=0.2, largest=0.9, beyond=0.0)
    record = leg.record.model_copy(update={"ranges": [ranges["softmax"], little]})
    asked, declared, answers = both._last
    other = dataclasses.replace(answers, reference=dataclasses.replace(leg, record=record))
    monkeypatch.setattr(both, "_last", (asked, declared, other))
    (note,) = [note for note in both.judge(request, leg).notes if "nearly linear" in note]
    both.close()
    assert "gelu (inputs with an rms of 0.2)" in note and "softmax" not in note


def test_batches_that_are_timed_are_judged_in_the_arithmetic_of_the_case(tmp_path, monkeypatch):
    both = Sides(RunSettings(DeviceSpec("cpu"), tmp_path))
    asked = []
    monkeypatch.setattr(both, "answers", lambda *given: None)
    monkeypatch.setattr(sides, "_evidence", lambda *given: None)
    monkeypatch.setattr(sides.verdict, "judge_batch", lambda *given: [])
    monkeypatch.setattr(both, "ask", lambda one: asked.append(one) or SimpleNamespace(outputs={}))
    case = LegRequest(None, None, "autocast-float16", 8, "default", 2, True, "{}", 1.0)
    both.judge_batch(case, None, 3)
    (full,) = asked
    assert full == LegRequest(None, None, "autocast-float16", 3, "default", 0, fault_plan="{}",
                              fill=True)  # fmt: skip


@pytest.mark.slow
def test_of_the_last_case_alone_the_outputs_are_kept_and_nothing_beside_them(cache_dir, tmp_path):
    good = Case(
        ModelSource("architecture", "test_resnet", num_classes=50),
        InputSource("synthetic", count=2),
        numerics="strict",
    )
    bad = dataclasses.replace(good, model=ModelSource("directory", str(tmp_path / "none")))
    runner = CaseRunner(Sides(RunSettings(DeviceSpec("cpu"), cache_dir)))
    try:
        record = runner.run(good)
        kept = runner.last
        assert kept.record is record and kept.request.inputs.sha256 == record.inputs_sha256
        for leg, recorded in (
            (kept.reference, record.reference), (kept.candidate, record.candidate)
        ):  # fmt: skip
            assert leg.record == recorded and leg.logits == "output"
            assert {name: array.shape for name, array in leg.outputs.items()} == {"output": (2, 50)}
            assert leg.variants == {} and leg.operators is None
        assert record.operators is not None and len(record.outputs) == 2  # of which it was judged
        assert runner.run(bad).status is Status.FAIL_LOAD
        assert runner.last is None
    finally:
        runner.close()


ASK = """
import sys
from pathlib import Path
from harness.cases.case import InputSource, ModelSource
from harness.execution.legs import LegRequest
from harness.execution.reference.cache import ReferenceCache
from harness.execution.reference.cpu_side import CpuSide
cache, model = map(Path, sys.argv[1:])
cpu = CpuSide(ReferenceCache(cache, 10**9), cache)
prepared = cpu.prepare(ModelSource("directory", str(model)), InputSource("synthetic"))
request = LegRequest(*prepared, "float32", 8, "default")
print("ready", flush=True)
sys.stdin.readline()
cpu.reference(request)
cpu.oracle(request)
print(cpu.computed, flush=True)
"""


@pytest.mark.slow
def test_processes_that_need_one_reference_at_once_compute_it_once(tiny_model, tmp_path):
    command = [sys.executable, "-c", ASK, str(tmp_path), str(tiny_model)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    asking = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(3)]
    for process in asking:
        assert process.stdout.readline() == "ready\n"
    answers = []
    for process in asking:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in asking:
        answers.append(int(process.communicate()[0]))
        assert process.returncode == 0
    assert sum(answers) == 2  # the reference and the oracle, each by one of them


@pytest.mark.slow
@pytest.mark.parametrize(("own", "expected"), [(None, (3,)), ((2,), (2,)), ((), None)])
def test_a_case_may_have_batch_sizes_of_its_own(cache_dir, tmp_path, own, expected):
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides
    from harness.runs.runner import CaseRunner

    case = Case(
        ModelSource("architecture", "test_resnet", num_classes=50),
        InputSource("synthetic", count=2),
        numerics="strict",
        throughput=own,
    )
    plan = ThroughputPlan((3,), 0.1)
    settings = RunSettings(DeviceSpec("cpu"), cache_dir, throughput=plan)
    runner = CaseRunner(Sides(settings), tmp_path / "r.jsonl")
    try:
        record = runner.run(case)
    finally:
        runner.close()
    (back,) = results_file.read(tmp_path / "r.jsonl").cases
    assert back.model_dump_json() == record.model_dump_json()  # NaN is not equal to NaN
    found = record.throughput
    assert (found and tuple(row.batch_size for row in found.rows)) == expected
    if found is not None:
        assert not found.problem
        assert all(row.cpu is not None and row.device is not None for row in found.rows)


def _on(images, batch_size, faults=(), **counted):
    plan = json.dumps({"faults": list(faults)}) if faults else None
    labels = tuple(map(str, range(images)))
    request = SimpleNamespace(
        inputs=SimpleNamespace(labels=labels), batch_size=batch_size, fault_plan=plan
    )
    return request, SimpleNamespace(counters=Counters(**counted))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (
            {"operator": "Convolution", "batch_over": 8},
            "more than 8 images, the largest batch is 8",
        ),
        ({"operator": "Gelu"}, "the model never calls Gelu"),
        ({"operator": "Convolution", "first": 999}, "no call of Convolution met its terms"),
    ],
)
def test_a_fault_that_never_acted_says_why(fault, why):
    fault = {"kind": "scale_output"} | fault
    request, candidate = _on(
        6, 8, [fault, {"kind": "nan_output"}], operators={"Convolution": 4}, fault_effects=(0, 3)
    )
    planted, note = sides._planted(request, candidate)
    assert planted.startswith("Faults were planted on purpose (2): ")
    assert note.startswith("Fault 1 of the fault plan never acted") and why in note
