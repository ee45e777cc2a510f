import subprocess
import sys

import pytest

from harness.report import text
from harness.report.tables import precheck as report
from harness.system.files import ROOT
from harness.system.status import ExitCode
from harness.upgrade.precheck import check, coverage, stacks
from harness.upgrade.precheck.check import Checked, Model
from harness.upgrade.precheck.probe import OPTIONAL, REQUIRED

ATTRIBUTES = dict.fromkeys((*REQUIRED, *OPTIONAL), "present")


GOOD = Model(error=1e-6, agrees=True, operators={"Convolution": 3, "Add": 1})


def checked(version: str = "1", **changes) -> Checked:
    given = {"attributes": ATTRIBUTES, "models": {"resnet18": GOOD}, "versions": {"torch": "2"}}
    return Checked(version, **(given | changes))


def test_the_architectures_execute_every_surveyed_operator():
    chosen = check.covering_architectures()
    table = coverage.architectures()
    assert len(chosen) < 25
    assert {op for name in chosen for op in table[name]["operators"]} == check.needed_operators()


@pytest.mark.parametrize(
    ("changes", "said", "code"),
    [
        ({}, None, ExitCode.OK),
        ({"problem": "ImportError: no"}, "it does not load: ImportError", ExitCode.FAILED),
        (
            {"attributes": ATTRIBUTES | {"torch.npu.synchronize": "absent"}},
            "torch.npu.synchronize is gone",
            ExitCode.FAILED,
        ),
        ({"attributes": ATTRIBUTES | {OPTIONAL[0]: "absent"}}, None, ExitCode.OK),
        (
            {"models": {"vgg11": Model("RuntimeError: x")}},
            "vgg11 does not run: RuntimeError: x",
            ExitCode.FAILED,
        ),
        ({"models": {"vgg11": Model(error=0.5)}}, "computes something else", ExitCode.FAILED),
        (
            {"models": {"vgg11": Model(agrees=True, fallbacks=("aten::a",))}},
            "run on the CPU instead: aten::a",
            ExitCode.FAILED,
        ),
        (
            {"models": {"vgg11": Model(agrees=True, half={"bfloat16": 0.5})}},
            "vgg11 computes something else in bfloat16: error 5.0e-01",
            ExitCode.FAILED,
        ),
        ({"unavailable": "pip finds none"}, "pip finds none", ExitCode.INCOMPLETE),
    ],
)
def test_what_is_wrong_with_a_version(changes, said, code):
    found = [checked("9", **changes)]
    assert check.exit_code(found) is code
    page = "\n".join(map(text.render_table, report.tables(found))) + report.line(found)
    assert "EMULATED" in page
    if said is not None:
        assert said in page


def test_only_what_differs_is_in_the_table_of_differences():
    other = Model(error=1e-6, agrees=True, operators={"Convolution": 3, "Adds": 1})
    attributes = ATTRIBUTES | {"torch.npu.conv.allow_hf32": "False"}
    new = checked("2", models={"resnet18": other}, attributes=attributes, versions={"torch": "3"})
    broken = checked("3", problem="ImportError")
    table = report.differences([checked("1"), new, broken])
    assert table.header == ("item", "1", "2")
    rows = {name: cells for name, *cells in table.rows}
    assert rows["torch"] == ["2", "3"]
    assert rows["torch.npu.conv.allow_hf32"] == ["present", "False"]
    assert rows["resnet18"] == ["agrees: Add 1, Convolution 3", "agrees: Adds 1, Convolution 3"]
    assert not any(path in rows for path in OPTIONAL)


def test_what_a_version_calls_otherwise_is_said():
    def with_operators(version: str, **operators: int) -> Checked:
        model = Model(
            agrees=True, operators=operators, outputs={f"{n} Float[2]": 1 for n in operators}
        )
        return checked(version, models={"xcit": model}, names=("a", *operators))

    first, second = with_operators("1", Add=2, Cast=3), with_operators("2", Add=2, InplaceCopy=3)
    third = with_operators("3", Add=2)
    broken = checked("4", unavailable="no network")
    said = report.changes([first, second, broken, third, first]).splitlines()
    assert said == [
        "2 beside 1: xcit calls InplaceCopy 3 where Cast 3 was.",
        "3 beside 1: xcit no longer calls Cast 3.",
        "1 beside 1: the same operators, as often.",
    ]
    rows = {name: cells for name, *cells in report.differences([first, second]).rows}
    assert rows["torch_npu.npu"] == ["3 names", "3 names; came: InplaceCopy; gone: Cast"]
    assert rows["xcit: outputs that differ"] == ["Cast Float[2] 1", "InplaceCopy Float[2] 1"]


def test_what_the_emulator_lacks_is_no_failure_of_the_version():
    answer = {"emulator": "The emulator lacks HcclNew", "problem": "", "versions": {}, "models": {}}
    found = check.read("9", answer | {"attributes": {}, "names": [], "options": {}})
    assert found.failures == () and check.exit_code([found]) is ExitCode.INCOMPLETE
    assert "The emulator lacks HcclNew" in text.render_table(report.wrong([found]))


def test_a_process_that_dies_is_the_versions_problem(tmp_path, monkeypatch):
    dead = subprocess.CompletedProcess([], -6, "", "first\nterminate called: Duplicated key\n")
    monkeypatch.setattr(stacks, "run", lambda *_: dead)
    found = check.check(check.INSTALLED, [], tmp_path, lambda line: None)
    assert found.problem == "the process ended with code -6: terminate called: Duplicated key"


def test_no_version_leaves_the_work_folder_alone(tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    work = tmp_path / "work"
    for given in ("x/../../victim", "../victim", "--help", "2.8.0;rm", ""):
        done = subprocess.run(
            [sys.executable, "-m", "harness", "precheck", f"--torch-npu={given}",
             "--work", str(work)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == ExitCode.USAGE, done.stdout + done.stderr
        assert "no version of torch_npu" in done.stderr
    assert (victim / "kept").exists() and not work.exists()
