"""The environment that `make` makes, over a Python whose packages must not change."""

import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from harness.entry.install import bundle, environment, lock, pip, stack
from harness.entry.install.__main__ import main
from harness.entry.install.environment import STAMP
from harness.entry.install.pip import Fetch, Pip, Target
from harness.entry.install.stack import Stack
from harness.system import releases
from harness.system.files import ROOT

LOCK = """\
# head
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
Torch_NPU==1 \\
    --hash=sha256:cc
rich==14.0.0 \\
    --hash=sha256:dd
"""


def test_a_lock_loses_a_package_with_its_hashes():
    kept = lock.without(LOCK, {"torch-npu"})
    assert "Torch_NPU" not in kept and "sha256:cc" not in kept
    assert kept.count("--hash") == 3 and kept.startswith("# head")
    pins = lock.constraints(LOCK)
    assert pins == ["numpy==2.5.5 ; python_full_version >= '3.12'", "Torch_NPU==1", "rich==14.0.0"]


def names_in(pins):
    return {lock.normal(re.split("[>=;]", pin)[0]) for pin in pins}


def test_the_locks_have_hashes_for_the_tools_and_no_stack():
    names = names_in(lock.constraints(lock.text()))
    assert names.isdisjoint(lock.STACK) and not any(name.startswith("nvidia") for name in names)
    for line in lock.text().splitlines():
        assert line.startswith(("#", " ", "\t")) or "==" in line
    assert lock.text().count("--hash=sha256:") > len(names)
    assert names_in(lock.inputs()) <= names


def test_a_run_needs_neither_linters_nor_what_the_tests_need():
    run = names_in(lock.constraints(lock.text(tests=False)))
    assert {"numpy", "pytest", "pytest-xdist", "pydantic"} <= run
    assert names_in(lock.inputs(tests=False)) <= run
    more = names_in(lock.constraints(lock.DEV.read_text(encoding="utf-8")))
    assert {"ray", "playwright", "mypy", "import-linter"} <= more and more.isdisjoint(run)
    # All that a package of the run's lock asks for is there, or comes with the stack.
    left, seen = [*run], set()
    while left:
        name = left.pop()
        seen.add(name)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for text in importlib.metadata.requires(name) or []:
                asked = Requirement(text)
                wanted = asked.marker is None or asked.marker.evaluate({"extra": ""})
                if wanted and (other := lock.normal(asked.name)) not in seen:
                    left.append(other)
    assert seen.isdisjoint(more)


@pytest.fixture
def asked(monkeypatch):
    """pip as it was asked; nothing is fetched."""
    calls = []

    def plan(self, requirements, *more):
        calls.append(("plan", *requirements))
        cuda = any("torch==2.13" in text for text in requirements)
        found = [Fetch("torch", "2", "u", 1)]
        return found + [Fetch("nvidia-cublas", "1", "u", 1)] * cuda

    monkeypatch.setattr(Pip, "plan", plan)
    monkeypatch.setattr(
        Pip, "install", lambda self, requirements, *more: calls.append(("install", *requirements))
    )
    return calls


def release(name):
    return releases.find(name)


def test_all_is_asked_before_anything_is_installed(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(stack, "choose", lambda *_: Stack(release("2.8.0.post4"), "because"))
    environment.renew(tmp_path / "venv", "2.8.0.post4", None)
    kinds = [call[0] for call in asked]
    assert kinds == ["plan", "plan", "install", "install", "install"]
    assert asked[0] == ("plan", "torch_npu==2.8.0.post4")
    # Without what torch_npu pins on x86_64; tools come before what is not pinned by hashes.
    assert asked[2] == ("install", "torch==2.8.0", "torch_npu==2.8.0.post4")
    assert asked[3][:2] == ("install", "-r")
    assert asked[4][:3] == ("install", "torch==2.8.0", "torchvision==0.23.0")
    written = json.loads((tmp_path / "venv" / STAMP).read_text())
    assert (written["stack"], written["reason"]) == ("2.8.0.post4", "because")
    # Nothing has changed: nothing is asked again.
    environment.renew(tmp_path / "venv", "2.8.0.post4", None)
    assert len(asked) == 5


def test_what_the_tests_need_is_installed_when_it_is_asked_for_and_stays(
    asked, tmp_path, monkeypatch
):
    monkeypatch.setattr(stack, "choose", lambda *_: Stack(release("2.8.0.post4"), "because"))
    pins = []

    def install(self, requirements, *more):
        if requirements[0] == "-r":
            pins.append(len(lock.constraints(Path(requirements[1]).read_text(encoding="utf-8"))))

    monkeypatch.setattr(Pip, "install", install)
    all_pins = len(lock.constraints(lock.text()))
    environment.renew(tmp_path / "venv", "2.8.0.post4", None)
    assert len(pins) == 1 and pins[0] < all_pins
    environment.renew(tmp_path / "venv", "2.8.0.post4", None, tests=True)
    assert pins[1:] == [all_pins]
    environment.renew(tmp_path / "venv", "2.8.0.post4", None)
    environment.renew(tmp_path / "venv", "2.8.0.post4", None, tests=True)
    assert len(pins) == 2


def test_a_cpu_build_is_preferred_where_there_is_one(asked, tmp_path, monkeypatch, capsys):
    chosen = Stack(release("2.13.0"), "emulated", alternative=release("2.10.0.post4"))
    monkeypatch.setattr(stack, "choose", lambda *_: chosen)
    environment.renew(tmp_path / "venv", "", None)
    assert ("install", "torch==2.10.0", "torch_npu==2.10.0.post4") in asked
    assert "Stack: 2.10.0.post4 (emulated)" in capsys.readouterr().out


@pytest.mark.parametrize("emulated", [True, False])
def test_the_emulator_is_compiled_beside_the_rest_where_it_will_be_used(
    asked, tmp_path, monkeypatch, emulated
):
    chosen = Stack(release("2.13.0"), "because", emulated=emulated)
    monkeypatch.setattr(stack, "choose", lambda *_: chosen)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(pip, "LARGE", 1)  # so that it is followed, with another TMPDIR for pip
    tools = []
    monkeypatch.setattr(environment, "Pip", lambda *given: tools.append(Pip(*given)) or tools[-1])

    def build(python):
        assert tools[0]._environ["TMPDIR"] != os.environ["TMPDIR"] == str(tmp_path)
        asked.append(("build", python))

    monkeypatch.setattr(environment, "_build_beside", build)
    environment.renew(tmp_path / "venv", "", None)
    steps = [call[0] for call in asked if call[0] != "plan"]
    assert steps == ["install", *["build"] * emulated, "install", "install"]
    assert tools[0]._environ is None and not list(tmp_path.glob("venv/.fetch-*"))


def test_a_package_is_compiled_when_it_is_imported_and_not_before(tmp_path):
    wheel, place = tmp_path / "quick-1.0-py3-none-any.whl", tmp_path / "place"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("quick.py", "answer = 42\n")
        for name, text in {
            "METADATA": "Metadata-Version: 2.1\nName: quick\nVersion: 1.0\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }.items():
            packed.writestr(f"quick-1.0.dist-info/{name}", text)
    Pip(Path(sys.executable)).install([str(wheel)], "--no-index", "--target", str(place))
    assert (place / "quick.py").exists()
    assert not list(place.rglob("*.pyc"))


@pytest.mark.parametrize("kept", [True, False])
def test_packages_are_compiled_at_once_where_no_import_may_keep_what_it_compiles(
    asked, tmp_path, monkeypatch, kept
):
    monkeypatch.setattr(sys, "dont_write_bytecode", not kept)
    chosen = Stack(release("2.13.0"), "because")
    monkeypatch.setattr(stack, "choose", lambda *_: chosen)

    def install(self, requirements, *more):
        (place,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
        (place / "tests").mkdir(exist_ok=True)
        for name in ("ours.py", "broken.py", "tests/test_ours.py"):
            (place / name).write_text("answer =" if name == "broken.py" else "answer = 42\n")

    monkeypatch.setattr(Pip, "install", install)
    environment.renew(tmp_path / "venv", "", None)
    found = {path.name.partition(".")[0] for path in (tmp_path / "venv").rglob("*.pyc")}
    assert ("ours" in found) is not kept
    assert found.isdisjoint({"broken", "test_ours"})


def test_the_users_packages_are_seen_and_left_alone(tmp_path, monkeypatch, asked):
    """A Python with a torch of its own: what it has stays, and comes after what is ours."""
    users = tmp_path / "users" / "site-packages"
    (users / "torch_npu-2.9.0.post1.dist-info").mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: torch_npu\nVersion: 2.9.0.post1+gitabc\n"
    (users / "torch_npu-2.9.0.post1.dist-info" / "METADATA").write_text(metadata)
    (users / "numpy-1.0.dist-info").mkdir()
    (users / "numpy-1.0.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 1.0\n")
    before = sorted(path for path in users.rglob("*"))
    monkeypatch.setattr(environment.site, "getsitepackages", lambda: [str(users)])
    monkeypatch.setattr(environment.site, "getusersitepackages", lambda: str(tmp_path / "none"))
    monkeypatch.setattr(stack, "installed", lambda: "torch_npu 2.9.0.post1+gitabc")
    tools = []
    monkeypatch.setattr(
        Pip, "install",
        lambda self, requirements, *more: tools.append(Path(requirements[1]).read_text()),
    )  # fmt: skip
    venv = tmp_path / "venv"
    environment.renew(venv, "auto", None)
    (text,) = tools  # the tools alone: no call for the stack
    pins = lock.constraints(text)
    assert not any(pin.startswith("numpy==") for pin in pins)
    assert names_in(pins) == names_in(lock.constraints(lock.text(tests=False))) - {"numpy"}
    code = "import importlib.metadata as m; print(m.version('torch_npu'))"
    seen = subprocess.run(
        [str(venv / "bin/python"), "-c", code], capture_output=True, text=True, check=True
    )
    assert seen.stdout == "2.9.0.post1+gitabc\n"
    assert sorted(path for path in users.rglob("*")) == before
    assert asked == []


def test_a_folder_that_is_no_environment_is_not_touched(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    assert main(["venv", str(tmp_path / "mine")]) == 4
    assert "is no virtual environment: give VENV= another folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


def made_bundle(folder, **changes):
    folder.mkdir()
    (folder / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    here = Target.of()
    found = {
        "stack": "2.8.0.post4", "machine": here.machine, "python": here.python,
        "files": {"a-1-py3-none-any.whl": bundle.sha256_file(folder / "a-1-py3-none-any.whl")},
    } | changes  # fmt: skip
    (folder / bundle.MANIFEST).write_text(json.dumps(found))
    return folder


def test_a_bundle_is_read_when_it_is_whole_and_for_this_host(tmp_path):
    assert bundle.read(made_bundle(tmp_path / "good"), Target.of()) == "2.8.0.post4"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"python": "3.99"}, "is for Python 3.99 on"),
        ({"machine": "riscv64"}, "riscv64, this is Python"),
        ({"files": {"a-1-py3-none-any.whl": "0" * 64}}, "missing or damaged: copy it again"),
        ({"files": {"gone.whl": "0" * 64}}, "gone.whl is missing"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "passwd is missing or damaged"),
        ({"files": 7}, "is no bundle"),
    ],
)
def test_a_bundle_of_another_host_or_a_damaged_one_is_refused(tmp_path, capsys, changes, said):
    folder = made_bundle(tmp_path / "bad", **changes)
    assert main(["venv", str(tmp_path / "venv"), "--wheels", str(folder)]) == 4
    assert said in capsys.readouterr().err
    assert not (tmp_path / "venv").exists()


def test_bad_input_is_one_sentence_and_exit_code_4(tmp_path, capsys):
    assert main(["venv", str(tmp_path / "v"), "--stack", "9.x"]) == 4
    assert main(["venv", str(tmp_path / "v"), "--wheels", str(tmp_path / "none")]) == 4
    assert main(["bundle", str(tmp_path), "--python", "2.7"]) == 4
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and all(line.startswith("error: ") for line in errors)
    assert not (tmp_path / "v").exists()


def test_the_installer_runs_where_nothing_is_installed():
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from harness.entry.install.__main__ import main\n"
        "code = main(['venv', '/nowhere', '--stack', 'x'])\n"
        "print(code, [n for n in sys.modules if n in ('pydantic', 'numpy', 'torch', 'tomli')])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "4 []\n", done.stderr


def test_a_script_that_knows_nothing_of_us_can_import_torch_and_timm(tmp_path):
    def run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key not in _SETTINGS}
        return subprocess.run(
            [str(python), "-c", code], cwd=tmp_path, env={**env, **more}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "v")], check=True)
    python = tmp_path / "v" / "bin" / "python"
    beside = Path(run("import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    (beside / "stack.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment.make_importable(python)
    done = run("import torch, timm; print(timm.__version__)")
    assert done.returncode == 0 and done.stdout.strip() == importlib.metadata.version("timm")
    # With CANN torch_npu is loaded as anywhere.
    kept = run("import os; print(os.environ.get('TORCH_DEVICE_BACKEND_AUTOLOAD'))",
               ASCEND_HOME_PATH="/usr/local/Ascend")  # fmt: skip
    assert kept.stdout == "None\n"


_SETTINGS = ("TORCH_DEVICE_BACKEND_AUTOLOAD", "ASCEND_HOME_PATH", "PYTHONPATH")
