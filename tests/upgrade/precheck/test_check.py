import json
import subprocess

import pytest

from harness.report import text
from harness.report.tables import precheck as report
from harness.system.status import ExitCode
from harness.upgrade.precheck import check
from harness.upgrade.precheck.check import Checked, Model
from harness.upgrade.precheck.probe import OPTIONAL, REQUIRED

ATTRIBUTES = dict.fromkeys((*REQUIRED, *OPTIONAL), "present")


GOOD = Model(error=1e-6, agrees=True, operators={"Convolution": 3, "Add": 1})


def checked(version: str = "1", **changes) -> Checked:
    given = {"attributes": ATTRIBUTES, "models": {"resnet18": GOOD}, "versions": {"torch": "2"}}
    return Checked(version, **(given | changes))


def test_the_architectures_execute_every_surveyed_operator():
    chosen = check.covering_architectures()
    table = check.catalogue()
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


def wheel(name: str, version: str, *needs: str) -> dict:
    return {"metadata": {"name": name, "version": version, "requires_dist": list(needs)}}


@pytest.fixture
def pip(monkeypatch):
    """Stand in for every process: answers by what the command asks, in the order given."""

    def answer(*answers: tuple[int, object, str]):
        done = subprocess.CompletedProcess
        left = [done([], 0, "", "")]  # the venv
        left += [done([], code, json.dumps(out), err) for code, out, err in answers]
        commands = []

        def run(command, timeout, env=None):
            commands.append(command)
            return left.pop(0)

        monkeypatch.setattr(check, "_run", run)
        return commands

    return answer


NPU = {"install": [wheel("torch_npu", "9", "torch==9.0+cpu", "numpy")]}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            [(1, {}, "ERROR: Could not find a version that satisfies the requirement torch_npu==9 "
              "(from versions: 1, 2)\n")],
            "pip finds no torch_npu 9 for this machine: Could not find a version that satisfies "
            "the requirement torch_npu==9",
        ),
        (
            [(0, NPU, ""), (1, {}, "note\nERROR: Cannot install torch-npu==9\nERROR: other\n")],
            "it needs torch==9.0+cpu, which pip cannot get here: Cannot install torch-npu==9",
        ),
        (
            [(0, NPU, ""), (0, {"install": [wheel("torch", "9.0"), wheel("nvidia-x", "1")]}, "")],
            "it needs torch==9.0+cpu, and pip would take torch 9.0, a CUDA build, beside which "
            "torch_npu aborts: set PIP_EXTRA_INDEX_URL to PyTorch's CPU index",
        ),
    ],
)  # fmt: skip
def test_versions_that_cannot_be_had_say_why(pip, tmp_path, answers, reason):
    commands = pip(*answers)
    found = check.check("9", ["resnet18"], tmp_path, lambda line: None)
    assert found.unavailable == reason
    assert not any("harness.upgrade.precheck.probe" in command for command in commands)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_is_the_versions_problem(pip, tmp_path, monkeypatch):
    pip()
    dead = subprocess.CompletedProcess([], -6, "", "first\nterminate called: Duplicated key\n")
    monkeypatch.setattr(check, "_run", lambda *_: dead)
    found = check.check(check.INSTALLED, [], tmp_path, lambda line: None)
    assert found.problem == "the process ended with code -6: terminate called: Duplicated key"
