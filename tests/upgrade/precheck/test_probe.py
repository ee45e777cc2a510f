import re
import subprocess
import sys

import pytest

from harness.system.files import ROOT
from harness.upgrade.precheck import probe
from harness.upgrade.precheck.probe import MARK, OPTIONAL, REQUIRED


def test_the_attributes_are_those_that_the_device_uses():
    devices = ROOT / "harness/devices"
    source = (devices / "npu.py").read_text() + (devices / "npu_settings.py").read_text()
    used = set(re.findall(r"self\._npu\.([a-z]\w*(?:\.[a-z]\w*)?)", source))
    used |= set(re.findall(r'call\((?:torch_npu, )?"([\w.]+)"', source))
    used |= set(re.findall(r'"(npu\.[\w.]+)"', source))
    used |= set(re.findall(r"self\._torch_npu\.(npu[\w.]+)", source))
    listed = {path.partition(" = ")[0] for path in (*REQUIRED, *OPTIONAL)}
    known = {re.sub(r"^torch(_npu)?\.", "", path) for path in listed}
    known |= {path.removeprefix("npu.") for path in known}
    assert {name for name in used if name not in known and name != "matmul"} == set()
    for path in listed:
        assert path.rpartition(".")[2] in source, path


def test_the_probe_never_raises_for_an_attribute():
    class Root:
        @property
        def broken(self):
            raise RuntimeError

        def call(self):
            """A function."""

        setting = True

    roots = {"torch": Root()}
    for path, answer in {
        "torch.call": "present",
        "torch.setting": "True",
        "torch.broken": "raises RuntimeError",
        "torch.gone.deeper": "absent",
        "torch.setting = False": "taken",
        "torch.gone.deeper = False": "absent",
    }.items():
        assert probe._attribute(roots, path) == answer


@pytest.mark.slow
def test_the_installed_version_from_the_shell():
    done = subprocess.run(
        [sys.executable, "-m", "harness", "precheck", "--torch-npu", "installed",
         "--model", "test_resnet", "--format", "markdown"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert MARK not in done.stdout
    assert "| installed | yes |" in done.stdout and "1 of 1 run" in done.stdout
    assert "fine: installed - EMULATED" in done.stdout
    assert "230 names" not in done.stdout  # one version alone differs from nothing
