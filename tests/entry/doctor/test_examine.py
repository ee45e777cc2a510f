"""The doctor: what it finds, its exit code, and that nothing broken breaks it."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys

import pytest

from harness.devices import npu_probe
from harness.devices.npu_probe import Probe
from harness.devices.spec import DeviceSpec
from harness.entry.commands.main import main
from harness.entry.doctor import elsewhere, examine
from harness.entry.doctor import text as report
from harness.entry.doctor.examine import Diagnosis, Examination, Level
from harness.system import environment
from harness.system.environment import tomllib
from harness.system.files import ROOT

GOOD = {
    "problem": "no answer",
    "torch": {"cuda": None, "gpus": 0, "threads": 4},
    "torchvision": {"shim": None},
    "timm": {},
}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which all is well: eight NPUs, CANN sourced; tests break it."""
    home = tmp_path / "cann"
    (home / "x86_64-linux").mkdir(parents=True)
    (home / "x86_64-linux" / "ascend_toolkit_install.info").write_text(
        "package_name=Ascend-cann-toolkit\nversion=9.0.0\n"
    )
    driver = tmp_path / "version.info"
    driver.write_text("Version=25.2.0\nfirmware=7\n")
    versions = {name: "99" for name in environment.compatibility()["minimum"]} | {
        "torch": "2.8.0", "torch_npu": "2.8.0.post4", "torchvision": "0.23.0",
    }  # fmt: skip
    pins = {"torchvision": ["torch (==2.8.0)"]}
    monkeypatch.setattr(environment, "version", lambda name: versions.get(name, "not installed"))
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: pins.get(name))
    monkeypatch.setattr(environment, "_DRIVER", driver)
    monkeypatch.setattr(npu_probe, "has_torch_npu", lambda: "torch_npu" in versions)
    monkeypatch.setattr(npu_probe, "cuda_build", lambda: None)
    monkeypatch.setattr(npu_probe, "probe", lambda: Probe(8))
    monkeypatch.setattr(elsewhere, "imports", lambda: GOOD)
    monkeypatch.setattr(elsewhere, "plain_import", lambda: None)
    for name in list(os.environ):
        if name.startswith(("ASCEND_", "ACL_", "TORCH_NPU_", "TASK_QUEUE", "INF_NAN", "OMP_NUM")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(home))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    return versions


def found(device: str = "auto") -> dict[str, Diagnosis]:
    return {item.check: item for item in examine.examine(device).findings}


def bad(device: str = "auto") -> dict[str, Diagnosis]:
    return {
        check: item
        for check, item in found(device).items()
        if item.level in (Level.WARNING, Level.FAILURE)
    }


def test_a_good_machine(machine):
    examination = examine.examine()
    assert str(examination.device) == "npu:0"
    # Whether the emulator can be built depends on the machine that tests run on.
    others = [item for item in examination.findings if item.check != "emulator"]
    assert {item.level for item in others} == {Level.FINE}
    assert examination.exit_code == 0
    texts = {item.check: item.found for item in examination.findings}
    assert texts["cann"].startswith("CANN 9.0.0 in ")
    assert texts["driver"] == "NPU driver 25.2.0"
    assert texts["npu"] == "8 NPU(s) are visible"
    assert environment.short().endswith("torchvision 0.23.0, CANN 9.0.0")


@pytest.mark.parametrize(("anew", "said"), [(100, False), (1900, True)])
def test_modules_that_every_process_compiles_anew_are_said(machine, monkeypatch, anew, said):
    compiled = {"anew": anew, "of": 2000, "folder": "/site-packages"}
    monkeypatch.setattr(elsewhere, "imports", lambda: {**GOOD, "compiled": compiled})
    note = found().get("bytecode")
    assert (note is not None) is said
    if note is not None:
        assert note.level is Level.NOTE and "1900 modules" in note.found
        assert note.remedy.endswith("python -m compileall -q /site-packages")
    assert examine.examine().exit_code == 0


def test_every_bad_finding_has_a_remedy_and_the_worst_sets_the_exit_code(machine, monkeypatch):
    machine.pop("scipy")
    machine["timm"] = "0.9"
    machine["torch"] = "2.9.0"
    monkeypatch.setattr(npu_probe, "probe", lambda: Probe(0, "no driver", "No NPU: no driver."))
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "2,1")
    monkeypatch.setenv("TASK_QUEUE_ENABLE", "1")
    examination = examine.examine("npu")
    wrong = [f for f in examination.findings if f.level in (Level.WARNING, Level.FAILURE)]
    assert {f.check for f in wrong} == {
        *("packages", "torchvision", "torch_npu", "visible devices", "npu", "setting"),
    }  # fmt: skip
    assert all(item.remedy for item in wrong)
    assert examination.exit_code == 1
    text = report.render(examination)
    assert "not installed: scipy" in text and "too old: timm 0.9 (needed: 1.0.27)" in text
    assert "A run on npu:0 will fail: 4 failure(s) above." in text
    assert "Set ASCEND_RT_VISIBLE_DEVICES=1,2." in text


@pytest.mark.parametrize(
    ("torch", "torch_npu", "cann", "warning"),
    [
        ("2.8.0", "2.8.0.post4", "9.0.0", None),
        ("2.8.0+cpu", "2.8.0.post2", "8.5.1", None),
        # Each series of torch_npu goes with each of these, by its compatibility matrix.
        ("2.8.0", "2.8.0.post4", "8.5.1", None),
        ("2.9.0", "2.9.0.post1+gitabc", "8.3.RC1", None),
        ("2.8.0", "2.8.0.post4", "8.1.RC1", "with CANN 8.3, 8.5, 9.0, 9.1, found 8.1.RC1"),
        ("2.13.0+cpu", "2.13.0", "8.5.0", None),
        ("2.9.0", "2.13.0", None, "is made for torch 2.13.0, found 2.9.0"),
        ("2.9.0", "2.9.0.post1", None, None),
        ("2.8.0", "2.9.0rc1", None, "is made for torch 2.9.0, found 2.8.0"),
    ],
)
def test_versions_that_belong_together(torch, torch_npu, cann, warning):
    text = environment.compatibility_warning(torch, torch_npu, cann)
    assert (text is None) if warning is None else (warning in text)


def test_a_torchvision_for_another_torch_is_a_warning_also_in_the_header(machine):
    machine["torch"] = "2.9.0"
    assert "torchvision 0.23.0 is made for torch 2.8.0" in bad()["torchvision"].found
    assert "WARNING: torchvision 0.23.0 is made for torch 2.8.0" in environment.short()


def test_the_compiled_operators_of_torchvision_are_a_note(machine, monkeypatch):
    answer = GOOD | {"torchvision": {"shim": "torchvision compiled ops unavailable: x"}}
    monkeypatch.setattr(elsewhere, "imports", lambda: answer)
    assert found()["torchvision"].level is Level.NOTE


@pytest.mark.parametrize(
    ("value", "level"),
    [("0,1,7", Level.FINE), ("3", Level.FINE), ("2,1", Level.FAILURE), ("1,1", Level.FAILURE),
     ("", Level.FAILURE), ("a", Level.FAILURE)],
)  # fmt: skip
def test_visible_devices(machine, monkeypatch, value, level):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", value)
    assert found("npu")["visible devices"].level is level
    # They are no trouble for a run that needs no NPU.
    assert examine.examine("cpu").exit_code == 0


def test_what_a_device_does_not_need_is_no_failure(machine, monkeypatch):
    machine.pop("torch_npu")
    missing = Probe(0, "torch_npu is not installed", "No NPU: install it.")
    monkeypatch.setattr(npu_probe, "probe", lambda: missing)
    assert examine.examine("cpu").exit_code == 0
    for device in ("npu", "npu-emulated", "auto"):
        assert bad(device)["torch_npu"].level is Level.FAILURE, device
    assert "takes the emulated one" not in found("auto")["npu"].found


def test_an_index_beyond_the_devices(machine):
    assert "no npu:8" in bad("npu:8")["npu"].found
    assert bad("npu:7") == {}


def test_a_cuda_build_beside_torch_npu(machine, monkeypatch):
    monkeypatch.setattr(npu_probe, "cuda_build", lambda: "12.8")
    assert "a CUDA 12.8 build" in bad("npu")["torch_npu"].found


def test_cuda_without_a_gpu(machine):
    assert bad("cuda")["cuda"].level is Level.FAILURE


def test_autoload_is_told_with_its_remedy(machine, monkeypatch):
    monkeypatch.setattr(elsewhere, "plain_import", lambda: "exit code 1: RuntimeError")
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in found()["autoload"].remedy


def test_cann_that_is_gone_and_cann_of_unknown_version(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path / "gone"))
    assert bad("npu")["cann"].level is Level.FAILURE
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path / "empty"))
    assert "of unknown version" in found("npu")["cann"].found
    assert "of unknown version" in environment.short()


@pytest.mark.parametrize("row", environment.compatibility()["setting"], ids=lambda r: r["name"])
def test_settings_that_change_results(machine, monkeypatch, row):
    value = re.sub(r"[\[\]]|\.\*", "", row["values"].split("|")[0])[:30]
    value = value[0] if row["values"].startswith("[") else value
    monkeypatch.setenv(row["name"], value)
    item = found()["setting"]
    assert item.level.value == row["level"] and row["means"] in item.found and item.remedy
    assert (row["name"] in environment.short()) is (row["level"] == "warning")
    monkeypatch.setenv(row["name"], "something else")
    assert "setting" not in found()


def test_a_cache_that_cannot_be_written(machine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert bad()["cache"].level is Level.FAILURE


def test_no_compiler_fails_the_emulated_npu_alone(machine, monkeypatch):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    assert bad("npu-emulated")["emulator"].level is Level.FAILURE
    assert examine.examine("npu").exit_code == 0


def test_the_minimum_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = dict(
        re.match(r"([\w-]+)>=([\w.]+)", text).groups() for text in project["dependencies"]
    )
    wanted.pop("tomli")  # Python 3.10 only
    assert environment.compatibility()["minimum"] == wanted


def test_the_text_names_an_emulated_device(machine):
    line = report.line(Examination(DeviceSpec("npu-emulated"), ()))
    assert "EMULATED" in line


def test_an_unknown_device_is_a_usage_problem(capsys):
    assert main(["doctor", "--device", "tpu"]) == 4
    assert "Unknown device 'tpu'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise ImportError('libtorch.so: cannot open')", "ImportError: libtorch.so: cannot open"),
        ("import os; os.abort()", "exit code -6"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
    ids=["raises", "aborts", "exits"],
)
def test_a_broken_torch_is_a_finding(tmp_path, code, text):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "doctor", "--device", "cpu", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    (item,) = [item for item in document["findings"] if item["check"] == "torch"]
    assert item["level"] == "failure" and text in item["found"] and item["remedy"]
    assert document["exit_code"] == 1 and document["device"] == "cpu"
    assert document["environment"]["python"] and document["short"].startswith("Python 3.")


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="reading TOML takes a package there")
def test_an_absent_torch_is_a_finding(tmp_path):
    """No package but the standard library: an isolated interpreter without site-packages."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "harness", "doctor"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "packages: not installed: torch, timm" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_this_machine_as_it_is():
    done = subprocess.run(
        [sys.executable, "-m", "harness", "doctor", "--device", "cpu"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fine       torch: torch " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
