"""The study: its counting, its Markdown, and one small run from the command line."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from harness.detection import study_results
from harness.detection.study import Plan
from harness.detection.study_results import FaultResult
from harness.report import study as report
from harness.system.files import ROOT
from harness.system.status import Status, UsageProblem
from tests.makers.detection import honest, row, small_study


def test_totals_by_setting_and_format():
    rows = report.totals(small_study()).rows
    assert rows[0] == ("strict", "C", "2", "2", "2", "1", "0", "0", "50.0", "50.0")
    assert rows[-1] == ("strict", "all", "4", "3", "2", "1", "0", "0", "33.3", "33.3")


def test_false_alarms_are_counted():
    rows = report.honest_totals(small_study()).rows
    assert [r[3] for r in rows] == ["0", "1"]


def test_the_markdown_names_what_was_missed_and_is_labelled():
    page = report.render(small_study())
    assert "EMULATED" in page
    (missed,) = report.missed(small_study()).rows
    assert missed == ("faint", "C early 2")
    assert "no effect" in page


def test_histogram_keeps_every_value_in_its_half_decade():
    lines = report.histogram([1.0, 1.5, None], [0.01, 4.0, 1e9, float("inf")])
    shown = {line[:18].strip(): line[18:].split() for line in lines}
    assert shown["1 .. 3.16"][-1] == "2"
    assert shown["3.16 .. 10"][-1] == shown["< 0.1"][-1] == shown[">= 1e+06"][-1] == "1"
    assert [part for part in shown["not a number"] if part.isdigit()] == ["1", "1"]


def test_a_study_survives_its_file(tmp_path):
    study_results.save(small_study(), tmp_path / "study.json")
    assert study_results.load(tmp_path / "study.json") == small_study()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageProblem):
        study_results.load(tmp_path / "other.json")


def test_a_fault_missed_in_a_reduced_format_is_looked_up_in_strict():
    base = small_study()
    faint = FaultResult("C", "float16", "m", row(status=Status.PASS, ratio=2.0))
    both = dataclasses.replace(
        base, honest=(*base.honest, honest(format="float16")), faults=(*base.faults, faint)
    )
    (found,) = [r for r in report.totals(both).rows if r[:2] == ("float16", "C")]
    assert found[5:7] == ("1", "1")


def test_studies_of_different_settings_join_and_overlapping_ones_do_not():
    base = small_study()
    parts = [
        dataclasses.replace(
            base,
            settings={name: base.settings[name]},
            honest=tuple(r for r in base.honest if r.setting == name),
            faults=tuple(r for r in base.faults if r.setting == name),
        )
        for name in ("C", "D")
    ]
    joined = study_results.join(parts)
    assert (joined.faults, list(joined.settings)) == (base.faults, ["C", "D"])
    assert joined.seconds == 122
    with pytest.raises(UsageProblem, match="hold m in C"):
        study_results.join([parts[0], base])


def test_unknown_names_are_usage_problems():
    with pytest.raises(UsageProblem, match="setting 'E'"):
        Plan(settings=("E",))
    with pytest.raises(UsageProblem, match="format 'fp8'"):
        Plan(formats=("fp8",))


def test_a_small_study_from_the_command_line(tmp_path, cache_dir):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "study", "--settings", "A,D", "--formats", "strict",
         "--models", "test_resnet", "--seeds", "1", "--limit", "4", "--output", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    raw = json.loads((tmp_path / "study.json").read_text())
    assert len(raw["faults"]) == 8
    found = study_results.load(tmp_path / "study.json")
    assert [r for r in found.honest if r.false_alarm] == []
    assert {r.status for r in found.honest if r.setting == "D"} == {Status.PASS}
    # Plain random weights tell no images apart: never a pass, whatever the documented gate says.
    assert {r.status for r in found.honest if r.setting == "A"} == {Status.INCONCLUSIVE}
    assert [r for r in found.faults if r.row.missed] == []
    assert "EMULATED" in done.stdout
    assert (tmp_path / "study.md").read_text() in done.stdout
