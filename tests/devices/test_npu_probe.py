import os
import subprocess
import sys
from pathlib import Path

from harness.devices.npu_probe import Probe


def probe_with(cann: Path) -> Probe:
    """The real probe in a process that finds these libraries."""
    code = (
        "import harness; from harness.devices import npu_probe\n"
        "npu_probe.cuda_build = lambda: None  # whichever torch is installed\n"
        "p = npu_probe.probe();"
        "print(p.devices, p.short, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(cann),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    devices_text, _, short = done.stdout.strip().splitlines()[-1].partition("|")
    return Probe(int(devices_text), short)


def test_cann_that_does_not_load_is_told_apart_from_no_device(tmp_path):
    (tmp_path / "libhccl.so").write_text("not a library")
    found = probe_with(tmp_path)
    assert found.devices == 0
    assert found.short == "torch_npu does not load"
