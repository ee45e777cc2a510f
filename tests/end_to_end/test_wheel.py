"""The wheel in another project: nothing of this checkout is needed, and nothing else is touched."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from setuptools import find_packages

from harness.entry.install import wheel
from harness.entry.npu_accuracy import separate_paths
from harness.entry.pytest_plugin import accuracy, large_runs, ray_sweep, throughput, upgrade
from harness.records import results_file
from harness.system.files import ROOT
from harness.system.status import Status
from harness.system.toml import tomllib

TEST = """


def test_mine(case_record):
    assert case_record.status.value == "pass"
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh environment with the wheel, in which this one's packages were there before."""
    folder = tmp_path_factory.mktemp("wheel")
    before = set(ROOT.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # setuptools is here; pip reads 0 as "none"
        built = wheel.write(folder / "dist")
    assert set(ROOT.iterdir()) == before
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    found = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    (found / "before.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "venv" / "bin" / "python"

    def installed() -> dict[str, str]:
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return {one["name"]: one["version"] for one in json.loads(listed.stdout)}

    were = installed()
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check",
         built], check=True,
    )  # fmt: skip
    assert installed() == {**were, "npu-accuracy-harness": "0.1.0"}
    assert "torch" in were
    return python


@pytest.fixture
def project(tmp_path, environment, cache_dir):
    """A project of somebody else; runs a program of the environment in it."""
    (tmp_path / "project").mkdir()

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TORCH_"))}
        return subprocess.run(
            [environment.parent / command[0], *command[1:]],
            cwd=tmp_path / "project",
            env={**clean, "HARNESS_CACHE_DIR": str(cache_dir), **variables},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    run.folder = tmp_path / "project"
    return run


def test_where_it_is_not_enabled_it_is_not_there(project):
    (project.folder / "test_other.py").write_text(
        "import os, sys\n"
        "def test_other(request):\n"
        "    assert not {'torch', 'harness'} & sys.modules.keys()\n"
        "    assert not any(name.startswith('TORCH_') for name in os.environ)\n"
        "    assert not hasattr(request.config.option, 'device')\n"
    )
    done = project("python", "-m", "pytest", "-q")
    assert done.returncode == 0, done.stdout
    help_text = project("python", "-m", "pytest", "--help").stdout
    assert "--emulated-kernels" not in help_text and "accuracy harness" not in help_text


@pytest.mark.parametrize("line", ["ini", "conftest"])
def test_one_line_enables_it(project, line):
    if line == "ini":
        (project.folder / "pytest.ini").write_text("[pytest]\naddopts = -p npu_accuracy\n")
    else:
        (project.folder / "conftest.py").write_text('pytest_plugins = ["npu_accuracy"]\n')
    (project.folder / "test_mine.py").write_text(TEST)
    models = project.folder.parent / "models"
    models.mkdir()
    done = project("python", "-m", "pytest", "--device", "cpu", "--model", "test_resnet",
                   "--numerics", "strict")  # fmt: skip
    assert done.returncode == 0, done.stdout
    (record,) = results_file.read_run(project.folder / "reports").cases
    assert record.status is Status.PASS
    # A path elsewhere moves pytest's root: without and with `=` it is the option's value.
    for paths in (["--model", "../models"], [f"--model={models}"], ["--model", str(models)]):
        done = project("python", "-m", "pytest", "--device", "cpu", *paths)
        assert done.returncode == 1 and "fail_load" in done.stdout, done.stdout
        assert "config.json" in done.stdout


def test_its_command_runs_the_cases_that_it_brings(project):
    done = project("npu-accuracy", "run", "--device", "cpu", "--model", "test_resnet",
                   "--numerics", "strict", "--html", "page.html")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert (project.folder / "reports" / "results.jsonl").is_file()
    assert (project.folder / "page.html").is_file()
    done = project("npu-accuracy", "report")
    assert done.returncode == 0 and "test_resnet" in done.stdout
    assert project("npu-accuracy", "--help").stdout.startswith("usage: npu-accuracy")
    # In the environment nothing was written.
    environment = Path(sys.prefix)
    assert not (environment.parent / "reports" / "page.html").exists()


def test_every_package_is_in_the_wheel():
    """setuptools finds none by itself, for two lie elsewhere."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = set(find_packages(str(ROOT), include=["harness*"])) - {"harness.entry.npu_accuracy"}
    assert set(named) == found | {"npu_accuracy", "npu_accuracy.cases"}


def test_every_option_that_takes_a_path_may_stand_apart(pytestconfig):
    class Options:
        def __init__(self) -> None:
            self.paths = {"--model", "--images"}

        def getgroup(self, *_: object) -> "Options":
            return self

        def addoption(self, name: str, **given: object) -> None:
            if given.get("type") is Path:
                self.paths.add(name)

    found = Options()
    for module in (accuracy, large_runs, ray_sweep, throughput, upgrade):
        module.pytest_addoption(found, None)
    assert set(separate_paths.OPTIONS) == found.paths


def test_paths_are_joined_to_their_options(tmp_path):
    apart = ["--model", str(tmp_path), "--model", "resnet50", "-k", str(tmp_path), "--images=a"]
    assert separate_paths.joined(apart) == [f"--model={tmp_path}", *apart[2:]]
    assert separate_paths.joined(["--model"]) == ["--model"]
