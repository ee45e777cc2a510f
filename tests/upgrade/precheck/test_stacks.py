"""Where a release runs, with pip stood in for."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.system import environment
from harness.system.status import UsageProblem
from harness.upgrade.precheck import stacks
from harness.upgrade.precheck.stacks import Unavailable, version

NETWORK = "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\nERROR: no\n"


class Pip:
    """Answers every process by what its command asks."""

    def __init__(self, needs: str = "torch==9.0.1+cpu") -> None:
        self.needs = needs
        self.commands: list[list[str]] = []
        self.errors: dict[str, str] = {}  # verb -> stderr
        self.pythons: tuple[str, ...] = ()  # for which there is a wheel
        self.index = "torch_npu (2)\nAvailable versions: 2.8.0.post4, 2.10.0, 2.8.0\n"

    def __call__(self, command, timeout, env=None):
        self.commands.append(list(command))
        done = subprocess.CompletedProcess
        if command[2] == "venv":
            (Path(command[3]) / "bin").mkdir(parents=True)
            return done(command, 0, "", "")
        verb = command[3]
        if "--python-version" in command:
            wanted = command[command.index("--python-version") + 1]
            return done(command, int(wanted not in self.pythons), "", "")
        if verb in self.errors:
            return done(command, 1, "", self.errors[verb])
        if verb == "download":
            folder = Path(command[command.index("--dest") + 1])
            folder.mkdir(parents=True)
            with zipfile.ZipFile(folder / "torch_npu.whl", "w") as archive:
                archive.writestr("torch_npu/__init__.py", "")
                text = f"Name: torch_npu\nRequires-Dist: {self.needs}\nRequires-Dist: numpy\n"
                archive.writestr("torch_npu-9.dist-info/METADATA", text)
        return done(command, 0, self.index, "")


@pytest.fixture
def pip(monkeypatch) -> Pip:
    fake = Pip()
    monkeypatch.setattr(stacks, "run", fake)
    return fake


def quiet(line: str) -> None:
    """Nobody listens."""


def test_a_release_of_the_installed_series_needs_no_venv(pip, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "version", lambda name: "9.0.1+cu128")
    found = stacks.stack(version("9.0.1.post4"), [], tmp_path, quiet)
    assert found.python == Path(sys.executable)
    assert found.folder is not None and (found.folder / "torch_npu").is_dir()
    assert found.env["PYTHONPATH"].split(":")[0] == str(found.folder)
    stacks.stack(version("9.0.1.post4"), [], tmp_path, quiet)
    assert len(pip.commands) == 1, "the wheel is kept"


def test_releases_of_one_torch_share_a_venv(pip, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "version", lambda name: "8.0")
    first = stacks.stack(version("9.0.1"), ["timm==1"], tmp_path, quiet)
    second = stacks.stack(version("9.0.1.post2"), ["timm==1"], tmp_path, quiet)
    assert first.python == second.python != Path(sys.executable)
    assert first.folder != second.folder
    installs = [command for command in pip.commands if "install" in command]
    assert len(installs) == 1 and "torch==9.0.1" in installs[0] and "timm==1" in installs[0]


@pytest.mark.parametrize(
    ("needs", "torch"),
    [("torch==2.8.0+cpu", "2.8.0"), ("torch==2.14.0.*", "2.14.0"), ("torch", None), ("x==1", None)],
)
def test_the_torch_that_a_wheel_asks_for(pip, tmp_path, needs, torch):
    pip.needs = needs
    assert stacks.needed_torch(stacks.wheel(version("9"), tmp_path, quiet)) == torch


@pytest.mark.parametrize(
    ("errors", "pythons", "reason"),
    [
        ({"download": "ERROR: none\n"}, (), "pip finds no torch_npu 9 .*pip index versions"),
        ({"download": "ERROR: none\n"}, ("3.9",), "no wheel for Python .* but for 3.9: run"),
        ({"download": NETWORK}, (), "reaches no package index: check the network"),
        ({"download": "OSError: [Errno 28] No space left\n"}, (), "disk .* is full: free space"),
        (
            {"install": "ERROR: Cannot install torch==9\n"},
            (),
            "needs torch 9.0.1, .* another Python",
        ),
        ({"install": NETWORK}, (), "reaches no package index"),
    ],
)
def test_every_refusal_has_its_remedy(pip, tmp_path, errors, pythons, reason):
    pip.errors, pip.pythons = errors, pythons
    with pytest.raises(Unavailable, match=reason) as caught:
        stacks.stack(version("9"), [], tmp_path, quiet)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    left = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert [name for name in left if not name.startswith("torch_npu-9-py")] == []
    assert not any(name.endswith(".part") for name in left)


def test_a_full_disk_is_told_before_anything_is_fetched(pip, tmp_path, monkeypatch):
    monkeypatch.setattr(stacks, "_WHEEL_BYTES", 1 << 60)
    with pytest.raises(Unavailable, match="MiB are free at .*--work"):
        stacks.stack(version("9"), [], tmp_path, quiet)
    assert pip.commands == []


@pytest.mark.parametrize("text", ["x/../../victim", "", "2.8.0 --pre", "latest"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(UsageProblem, match="no version of torch_npu"):
        version(text)


def test_local_builds_are_versions():
    assert str(version("2.9.0.post1+gitabc")) == "2.9.0.post1+gitabc"


def test_published_releases_come_oldest_first(pip):
    assert [str(found) for found in stacks.published(quiet)] == ["2.8.0", "2.8.0.post4", "2.10.0"]
    pip.errors["index"] = NETWORK
    with pytest.raises(Unavailable, match="network"):
        stacks.published(quiet)
