"""What may be broken is asked in Python processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from harness.devices import npu_probe
from harness.system.files import ROOT
from harness.system.status import UsageProblem

_PROBE_SECONDS = 180

# Each line of its answer is one JSON object; a library may print before it.
_IMPORTS = """
import json, os, sys, harness
def say(name, **found): print("\\n" + json.dumps({"name": name, **found}), flush=True)
def failed(error): return " ".join(f"{type(error).__name__}: {error}".split())[:400]
try:
    import torch
    say("torch", cuda=torch.version.cuda, gpus=torch.cuda.device_count(),
        threads=torch.get_num_threads())
except BaseException as error:
    say("torch", error=failed(error))
else:
    try:
        from harness.system import torchvision_shim
        say("torchvision", shim=torchvision_shim.ensure())
        torchvision_shim.import_timm()
        say("timm")
    except BaseException as error:
        say("timm", error=failed(error))
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    files = [file for file in (getattr(spec, "cached", None) for spec in specs) if file]
    say("compiled", anew=sum(not os.path.exists(file) for file in files), of=len(files),
        folder=os.path.dirname(os.path.dirname(torch.__file__)))
"""


def imports() -> dict[str, Any]:
    """Import torch, torchvision and timm elsewhere: name -> answer; "problem": how it ended."""
    lines, problem = _python_says(_IMPORTS, dict(os.environ))
    found: dict[str, Any] = {"problem": problem or "no answer"}
    for line in lines:
        try:
            answer = json.loads(line)
            found[answer.pop("name")] = answer
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # what a library printed
    return found


def plain_import() -> str | None:
    """Why `import torch` fails in a program that does not know the harness; None: it works."""
    if importlib.util.find_spec("torch") is None or not npu_probe.has_torch_npu():
        return None
    environ = {k: v for k, v in os.environ.items() if k != "TORCH_DEVICE_BACKEND_AUTOLOAD"}
    _, problem = _python_says("import torch", environ)
    return problem


def _python_says(code: str, environ: dict[str, str]) -> tuple[Sequence[str], str | None]:
    """Lines that a Python program prints, and how it failed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
            cwd=ROOT,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], f"no answer within {_PROBE_SECONDS} s"
    except OSError as error:
        raise UsageProblem(f"Cannot start {sys.executable} ({error.strerror}).") from error
    if done.returncode == 0:
        return done.stdout.splitlines(), None
    tail = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return done.stdout.splitlines(), f"exit code {done.returncode}: {tail[:400]}"
