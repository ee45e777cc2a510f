"""Records of schema version 1 are read as version 2 has them, by every view."""

import json

import pytest

from harness.entry.commands.main import main
from harness.records import results_file
from harness.system.status import Finding, Stage, Status
from harness.upgrade import compare, history

RUN = {
    "schema_version": 1, "type": "run", "run_id": "r", "started": "2026-01-01T00:00:00Z",
    "device": "cpu", "device_reason": "asked for", "emulated": False,
    "cases": ["m-synthetic-float32-b8-default"], "environment": {"torch": "2.13.0"},
}  # fmt: skip
CASE = {
    "schema_version": 1, "type": "case", "case_id": "m-synthetic-float32-b8-default",
    "case": {
        "model": {"kind": "architecture", "ref": "m"}, "inputs": {"kind": "synthetic"},
        "dtype": "float32", "batch_size": 8, "numerics": "default", "tier": "core",
    },
    "status": "flaky", "stage": "forward", "reason": "bits differ: all of them",
    "findings": ["flaky: bits differ: all of them", "inconclusive: nothing discriminates"],
    "inputs": "6 structured synthetic images (seed 0), 224x288", "labels": list("abcdef"),
    "localization": {"arithmetic": "float32 with every gelu as tanh", "stop": 6},
}  # fmt: skip
END = {
    "schema_version": 1, "type": "end", "exit_code": 1, "finished": "2026-01-01T00:00:01Z"
}  # fmt: skip


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (RUN, CASE, END)))
    return path


def test_what_was_text_is_data(old):
    (case,) = results_file.read(old).cases
    assert case.findings == [
        Finding(Status.FLAKY, Stage.FORWARD, "bits differ: all of them"),
        Finding(Status.INCONCLUSIVE, Stage.COMPARE, "nothing discriminates"),
    ]
    assert case.inputs_shape == [6, 3, 224, 288]
    assert case.localization.full


@pytest.mark.parametrize(
    ("arithmetic", "full"),
    [
        ("float32", True),
        ("float32 with HF32 conv", False),
        ("float32 with 12-bit conv and every gelu as tanh", False),
        ("bfloat16 with every gelu as tanh", False),
    ],
)
def test_an_arithmetic_is_full_when_no_factor_was_shortened(old, arithmetic, full):
    changed = {**CASE, "localization": {"arithmetic": arithmetic}}
    old.write_text("".join(json.dumps(line) + "\n" for line in (RUN, changed)))
    assert results_file.read(old).cases[0].localization.full is full


def test_version_2_writes_what_it_reads(old, tmp_path):
    run = results_file.read(old)
    new = tmp_path / "new.jsonl"
    results_file.write(run, new)
    assert results_file.read(new) == run
    assert {json.loads(line)["schema_version"] for line in new.read_text().splitlines()} == {2}


def test_every_view_takes_it(old, capsys):
    run = results_file.read(old)
    assert compare.compare(run, run).cases[0].change is compare.Change.IDENTICAL
    for form in ("text", "markdown", "csv"):
        assert main(["report", str(old), "--format", form]) == 1
        assert "bits differ: all of them" in capsys.readouterr().out
    assert main(["merge", str(old), "--output", str(old.parent / "whole")]) == 1
    merged = results_file.read_run(old.parent / "whole")
    assert merged.cases[0].findings == run.cases[0].findings
    history.append(old.parent / "history", run)
    (folder,) = (old.parent / "history").iterdir()
    assert [entry.status for entry in history.read_file(folder)] == [Status.FLAKY]


@pytest.mark.parametrize("finding", ["no status at all", "unheard_of: x", 7])
def test_what_is_no_finding_is_refused_with_its_place(old, finding):
    old.write_text(json.dumps({**CASE, "findings": [finding]}) + "\n")
    with pytest.raises(Exception, match="line 1: case.findings"):
        results_file.read(old)
