"""Is there an NPU here?  If not: what is missing, and the remedy.

Looks before it loads: importing torch_npu without CANN fails, and loading CANN is slow, so the
cheap questions come first and the real one is asked in a process of its own.
"""

from __future__ import annotations

import ctypes.util
import dataclasses
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from harness.system.files import ROOT
from harness.system.status import UsageProblem

# Where CANN's installer puts its environment script, toolkit and runtime-only packages.
_SET_ENV = (
    "/usr/local/Ascend/ascend-toolkit/set_env.sh",
    "/usr/local/Ascend/cann/set_env.sh",
    "/usr/local/Ascend/nnrt/set_env.sh",
)
_PROBE_SECONDS = 180

_QUESTION = """
import json, harness, torch
try:
    import torch_npu
    print("\\n" + json.dumps({"count": torch.npu.device_count()}))
except Exception as error:
    print("\\n" + json.dumps({"error": f"{type(error).__name__}: {error}"}))
"""


@dataclasses.dataclass(frozen=True)
class Probe:
    """What was found: number of NPUs, or what is missing in short and with its remedy."""

    devices: int
    short: str = ""
    paragraph: str = ""


def has_torch_npu() -> bool:
    """Whether torch_npu is installed; does not import it."""
    return importlib.util.find_spec("torch_npu") is not None


def require_torch_npu() -> None:
    """Raise UsageProblem unless torch_npu is installed: the emulator runs the real torch_npu."""
    if not has_torch_npu():
        raise UsageProblem(_missing_torch_npu().paragraph)


def cuda_build() -> str | None:
    """CUDA version that the installed torch was built for, None for a CPU build.

    Reads torch's version file: beside a CUDA build some releases of torch_npu abort the process.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=]*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    return match[1] if match else None


def require(index: int) -> None:
    """Raise UsageProblem, saying what is missing and how to get it, unless NPU `index` is here."""
    found = probe()
    if not found.devices:
        raise UsageProblem(found.paragraph)
    if index >= found.devices:
        raise UsageProblem(
            f"No device npu:{index}: {found.devices} NPU(s) are visible, npu:0 to "
            f"npu:{found.devices - 1}. ASCEND_RT_VISIBLE_DEVICES "
            f"({os.environ.get('ASCEND_RT_VISIBLE_DEVICES', 'not set')}) chooses them."
        )


@functools.lru_cache(maxsize=1)
def probe() -> Probe:
    """Look for an NPU, cheapest question first; the answer is kept for the process."""
    if not has_torch_npu():
        return _missing_torch_npu()
    if cuda := cuda_build():
        return _wrong_torch(cuda)
    if not _cann_visible():
        installed = next((script for script in _SET_ENV if Path(script).exists()), None)
        remedy = (
            f"CANN is installed: run `source {installed}` in this shell and try again."
            if installed
            else "Install the CANN toolkit and kernels for your card, then run `source "
            f"{_SET_ENV[0]}` (or the set_env.sh where you installed it)."
        )
        return Probe(
            0,
            "torch_npu is installed but CANN is not sourced",
            "No NPU: torch_npu is installed but CANN's libraries (libhccl.so) are not on the "
            f"library path. {remedy} Without an NPU, `--device npu-emulated` runs the same "
            "torch_npu on the CANN emulator; its results are EMULATED and say nothing about "
            "hardware.",
        )
    return _ask_torch_npu()


def _missing_torch_npu() -> Probe:
    return Probe(
        0,
        "torch_npu is not installed",
        "No NPU: torch_npu is not installed in this Python. Install it together with its torch, "
        "in one command so that pip cannot swap torch: `pip install torch==2.13.0 "
        "torch_npu==2.13.0 torchvision==0.28.0` (docs/releases.md lists others); CANN must be "
        "installed and sourced as well. The emulated NPU (`--device npu-emulated`) needs torch_npu "
        "too.",
    )


def _wrong_torch(cuda: str) -> Probe:
    return Probe(
        0,
        "torch is a CUDA build",
        f"No NPU: the installed torch was built for CUDA {cuda}, beside which torch_npu is not "
        "supported and newer releases abort. Install the CPU build of the same version from "
        "PyTorch's CPU index (docs/install.md). The emulated NPU "
        "(`--device npu-emulated`) runs beside this one.",
    )


def _cann_visible() -> bool:
    folders = [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(":") if f]
    if any((Path(folder) / "libhccl.so").exists() for folder in folders):
        return True
    return ctypes.util.find_library("hccl") is not None


def _ask_torch_npu() -> Probe:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            cwd=ROOT,
            check=False,
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        answer = {"error": f"no answer within {_PROBE_SECONDS} s"}
    except (ValueError, IndexError):
        tail = (done.stderr.strip().splitlines() or ["no message"])[-1]
        answer = {"error": f"the process ended with code {done.returncode}: {tail}"}
    if answer.get("count"):
        return Probe(int(answer["count"]))
    if "error" in answer:
        text = " ".join(str(answer["error"]).split())[:300]
        return Probe(
            0,
            "torch_npu does not load",
            f"No NPU: CANN is on the library path but torch_npu does not load ({text}). Check "
            "that the versions of torch, torch_npu and CANN belong together (docs/install.md has "
            "the table) and that set_env.sh was sourced in this shell.",
        )
    return Probe(
        0,
        "torch_npu and CANN load but see no device",
        "No NPU: torch_npu and CANN load but see no device. Check the driver with `npu-smi info`, "
        "that ASCEND_RT_VISIBLE_DEVICES "
        f"({os.environ.get('ASCEND_RT_VISIBLE_DEVICES', 'not set')}) is strictly ascending, and "
        "in a container that /dev/davinci* and /dev/davinci_manager are passed in.",
    )
