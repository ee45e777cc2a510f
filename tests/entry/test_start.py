"""What needs no model is answered without torch and timm, which take seconds to load."""

import os
import subprocess
import sys

import pytest

from harness.system.files import ROOT

pytestmark = pytest.mark.slow  # each starts Python anew

SCRIPT = (
    "import sys; from harness.entry.commands.main import main\n"
    "try: code = main(sys.argv[1:])\n"
    "except SystemExit as stop: code = stop.code\n"
    "heavy = {'torch', 'timm', 'torchvision', 'torch_npu', 'scipy', 'matplotlib'}\n"
    "print(f'\\n{code} {sorted(heavy & set(sys.modules))}')\n"
)


CASES = '[[case]]\narchitecture = "resnet18"\ninputs = ["synthetic", "noise"]\ntier = "smoke"\n'


def start(*arguments: str) -> tuple[str, str]:
    """Run a command; what it printed, and its exit code and heavy packages."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    text, _, last = done.stdout.rstrip("\n").rpartition("\n")
    return text + done.stderr, last


@pytest.fixture
def case_file(tmp_path) -> str:
    path = tmp_path / "cases.toml"
    path.write_text(CASES, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("command", [[], ["run"], ["report"]])
def test_help(command):
    text, last = start(*command, "--help")
    assert last == "0 []"
    assert "usage:" in text


@pytest.mark.parametrize("how", ["--list", "--collect-only"])
def test_cases_of_a_file(case_file, how):
    text, last = start("run", how, "-q", "-p", "no:cacheprovider", "--case-file", case_file)
    assert last == "0 []"
    assert "resnet18-noise" in text and "resnet18-synthetic" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "invalid choice: 'nothing'"),
        (["run", "--nothing"], "unrecognized arguments: --nothing"),
        (["run", "--device", "nothing"], "Unknown device 'nothing'"),
        (["run", "--device", "cpu", "--case-file", "nowhere.toml"], "nowhere.toml"),
        (["run", "--device", "cpu", "--shard", "3/2"], "3/2"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_bad_input(arguments, said):
    text, last = start(*arguments)
    assert last == "4 []"
    assert said in text


COMMANDS = ("sample-model", "device", "run", "sweep", "emulate", "study", "cache", "compare",
            "precheck", "report", "merge", "doctor", "schema", "architectures")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_help_works_without_arguments(command):
    done = subprocess.run(
        [sys.executable, "-m", "harness", *command, "--help"], cwd=ROOT, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    if command in (("run",), ("sweep",)):
        assert "--case-timeout" in done.stdout and "--ray" in done.stdout


def test_another_plugin_that_owns_an_option_is_one_sentence(tmp_path):
    plugin = 'def pytest_addoption(parser): parser.getgroup("x").addoption("--device")\n'
    (tmp_path / "owns_device.py").write_text(plugin)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "-p", "owns_device", "--list"], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert "'--device'" in done.stderr and "-p no:owns_device" in done.stderr


def test_a_sweep_without_its_cluster_is_one_sentence(capsys):
    from harness.entry.commands.main import main

    assert main(["sweep", "--device", "cpu"]) == 4
    assert "give --ray HOST:PORT" in capsys.readouterr().err
