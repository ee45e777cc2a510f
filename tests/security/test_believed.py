"""A record whose status its numbers contradict, or whose origin contradicts itself, is refused."""

import json
import math

import pytest

from harness.entry.commands.main import main
from harness.judgement.budget import FORMAT_LIMIT
from harness.judgement.metrics import Discrimination
from harness.judgement.separation import Separation
from harness.judgement.verdict import RULES
from harness.records import results_file
from harness.runs import resume
from harness.runs.session import final_exit_code
from harness.system.status import Finding, Stage, Status, UsageProblem
from harness.upgrade import history
from tests.makers.records import leg, measured, run_record

LABELS = list("abcdef")
TOLD_APART = Discrimination(6, 0.5, 6, 1.0, 1.0, 0.9)
APART = Separation(40.0, 0, 1, "output")
NOW = "2026-01-01T00:00:00Z"


def judged(ratio=1.0, status=Status.PASS, **changes):
    """A record as the harness writes it."""
    findings = [] if status is Status.PASS else [Finding(status, Stage.COMPARE, "why")]
    given = {
        "labels": LABELS, "discrimination": TOLD_APART, "separation": APART,
        "findings": findings, "rules": RULES, "candidate": leg("cpu"),
    }  # fmt: skip
    return measured(ratio, status=status, **{**given, **changes})


def written(folder, case, change=lambda raw: None, **run):
    """A results file of one case, changed by a stranger."""
    raw = json.loads(case.model_dump_json())
    change(raw)
    own = {**json.loads(run_record(case.case_id).model_dump_json()), **run}
    end = {"schema_version": 2, "type": "end", "exit_code": 0, "finished": NOW}
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(line) + "\n" for line in (own, raw, end))
    (folder / "results.jsonl").write_text(lines)
    return folder


def test_an_honest_record_is_read(tmp_path):
    assert final_exit_code(results_file.read_run(written(tmp_path / "p", judged()))) == 0
    failed = judged(2.9e5, Status.FAIL_ACCURACY)
    assert results_file.read_run(written(tmp_path / "f", failed)).cases[0].status is failed.status


def as_pass(raw):
    raw.update(status="pass", stage=None, reason="", findings=[])


def edited(**values):
    def change(raw):
        for path, value in values.items():
            at, *keys = raw, *path.split("__")
            for key in keys[:-1]:
                at = at[int(key) if key.isdigit() else key]
            at[int(keys[-1]) if keys[-1].isdigit() else keys[-1]] = value

    return change


CHANGES = {
    "status alone": (judged(2.9e5, Status.FAIL_ACCURACY), edited(status="pass")),
    "status and findings": (judged(2.9e5, Status.FAIL_ACCURACY), as_pass),
    "one image's ratio": (judged(), edited(budgets__0__image_ratios__3=2.9e5)),
    "a ratio that is no number": (judged(), edited(budgets__0__ratio="NaN")),
    "the limit": (judged(50.0), edited(budgets__0__limit=1e9)),
    "no numbers": (judged(), edited(budgets=[])),
    "images that are alike": (judged(), edited(separation__distance=0.9)),
    "one image": (judged(), edited(labels=["a"])),
    "a noisy format": (judged(), edited(budgets__0__budget_nrmse=0.9)),
    "the gate's count": (judged(), edited(gate__rows__0__device_top1=7)),
    "the gate's mean": (judged(errors=(0.5,) * 6, status=Status.FAIL_ACCURACY),
                        edited(gate__mean_cosine=0.999999, gate__error_rate_percent=1e-4)),
    "the error rate": (judged(errors=(0.5,) * 6), lambda raw: None),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_status_that_the_numbers_contradict_is_refused(name, tmp_path, capsys):
    folder = written(tmp_path / "run", *CHANGES[name])
    for arguments in (
        ["report", str(folder)],
        ["report", str(folder), "--lang", "en"],
        ["merge", str(folder), "--output", str(tmp_path / "whole")],
        ["compare", str(folder), str(folder)],
    ):
        assert main(arguments) == 4
        assert "line 2: the record contradicts itself" in capsys.readouterr().err
    with pytest.raises(UsageProblem, match="contradicts itself"):
        resume.read(folder)
    assert not (tmp_path / "whole").exists()


OLDER = {"rules": {"rules": ""}, "schema": {"rules": "", "schema_version": 1},
         "newer rules": {"rules": "99"}}  # fmt: skip


def older(raw, how):
    """What a stranger claims so that the rules of today are not applied."""
    raw.update(OLDER[how])
    if how == "schema":
        raw["findings"] = [f"{one['status']}: {one['reason']}" for one in raw["findings"]]
        for key in ("rules", "inputs_shape"):
            del raw[key]


@pytest.mark.parametrize("how", OLDER)
@pytest.mark.parametrize("name", ["status alone", "status and findings", "one image's ratio",
                                  "a ratio that is no number", "the gate's count",
                                  "the gate's mean"])  # fmt: skip
def test_older_rules_leave_no_status_that_the_record_s_own_numbers_contradict(name, how, tmp_path):
    case, change = CHANGES[name]

    def both(raw):
        change(raw)
        older(raw, how)

    with pytest.raises(UsageProblem, match="line 2: the record contradicts itself"):
        results_file.read_run(written(tmp_path / "run", case, both))


@pytest.mark.parametrize("how", OLDER)
def test_records_of_older_rules_are_read_and_said_to_be_older(how, tmp_path, capsys):
    folder = written(tmp_path / "a", judged(), lambda raw: older(raw, how))
    other = written(tmp_path / "b", judged(), lambda raw: older(raw, how), run_id="b")
    assert results_file.read_run(folder).cases[0].status is Status.PASS
    whole = str(tmp_path / "whole")
    for arguments in (
        ["report", str(folder)],
        ["report", str(folder), "--format", "markdown"],
        ["report", str(folder), "--lang", "en"],
        ["merge", str(folder), str(other), "--output", whole],
        ["compare", str(folder), str(other)],
    ):
        assert main(arguments) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if "other rules" in line]
        assert len(said) == 1 and "1 case" in said[0].replace("2 cases", "1 case"), arguments
        assert ("rules 99" if how == "newer rules" else "older") in said[0]
        assert "would" not in said[0]
    assert main(["report", str(folder), "--format", "html"]) == 0
    assert "other rules" in (folder / "accuracy.html").read_text()


def test_what_the_rules_of_today_would_say_of_an_older_record_is_said(tmp_path, capsys):
    folder = written(
        tmp_path / "run", judged(50.0), edited(rules="0", budgets__0__limit=1e9), run_id="b"
    )
    assert main(["report", str(folder)]) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "other rules" in line]
    assert "1 would not stand" in said and "limit" in said and judged().case_id in said


def test_records_of_these_rules_are_not_said_to_be_older(tmp_path, capsys):
    folder = written(tmp_path / "run", judged())
    assert main(["report", str(folder)]) == 0
    assert "other rules" not in capsys.readouterr().out


EMULATED = {"device": "npu-emulated:0", "emulated": True}


@pytest.mark.parametrize(
    ("run", "change"),
    [
        ({"device": "npu-emulated:0", "emulated": False}, {}),
        ({"device": "npu:0", "emulated": True}, {}),
        ({"device": "npu:0", "settings": {"fault_plan": "0123456789ab"}}, {}),
        ({"device": "npu:0", "settings": {"emulated_kernels": "blocked"}}, {}),
        ({"device": "npu:0"}, {"emulated": True, "candidate__device__emulated": True,
                               "candidate__device__kind": "npu-emulated",
                               "candidate__device__spec": "npu-emulated"}),
        ({"device": "npu:0"}, {"candidate__device__emulated": True}),
        ({"device": "npu:0"}, {"candidate__device__kind": "npu-emulated"}),
        ({"device": "npu:0"}, {"candidate__device__spec": "npu-emulated:0"}),
        ({"device": "npu:0"}, {"candidate__device__details": {"emulator": "of the harness"}}),
        ({"device": "cuda:0"}, {}),
        (EMULATED, {}),
        (EMULATED, {"candidate__device__kind": "npu-emulated", "candidate__device__emulated": True,
                    "candidate__device__spec": "npu-emulated"}),
    ],
)  # fmt: skip
def test_an_emulated_run_is_not_passed_off_as_an_npu_s(run, change, tmp_path, capsys):
    folder = written(tmp_path / "run", judged(candidate=leg("npu")), edited(**change), **run)
    with pytest.raises(UsageProblem, match="contradicts itself"):
        results_file.read_run(folder)
    assert main(["report", str(folder), "--lang", "en"]) == 4
    assert "may be published" not in capsys.readouterr().out and not (folder / "port").exists()


def test_a_pass_that_its_numbers_contradict_is_no_history(tmp_path):
    run = results_file.read_run(written(tmp_path / "run", judged()))
    path = history.append(tmp_path / "history", run)
    (line,) = path.read_text().splitlines()
    forged = [{**json.loads(line), key: 1e5} for key in ("budget_ratio", "error_rate_percent")]
    path.write_text("\n".join([line, *map(json.dumps, forged)]))
    (entry,) = history.read_file(path)
    assert entry.budget_ratio == 1.0 and math.isfinite(entry.error_rate_percent)
    assert entry.budget_ratio <= FORMAT_LIMIT
