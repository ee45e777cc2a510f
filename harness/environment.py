"""Versions and settings that a result depends on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_PACKAGES = (
    "torch",
    "torch_npu",
    "torchvision",
    "timm",
    "safetensors",
    "numpy",
    "scipy",
    "pytest",
    "pytest-html",
)
_SETTINGS = ("ASCEND_", "ACL_", "TORCH_NPU_", "HCCL_", "TASK_QUEUE_", "INF_NAN_", "OMP_", "MKL_")
# Values of these may hold credentials; their presence is enough.
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|CREDENTIAL", re.IGNORECASE)
_DRIVER = Path("/usr/local/Ascend/driver/version.info")
_COMPATIBILITY = Path(__file__).with_name("data") / "compatibility.toml"


def version(package: str) -> str:
    """Version of an installed package, without importing it; "not installed" otherwise."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def driver_version() -> str | None:
    """Version of the NPU's driver as its installer wrote it down; None where there is none."""
    try:
        text = _DRIVER.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^Version\s*=\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else "unknown"


def capture(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Versions, platform and every setting of torch_npu and CANN in the environment.

    Imports none of the packages.  Values of settings that look like credentials are replaced.
    """
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "harness": _harness_version(),
        **{package: version(package) for package in _PACKAGES},
    }
    if driver := driver_version():
        found["driver"] = driver
    for name in sorted(environ):
        if name.startswith(_SETTINGS):
            found[name] = "(set, not shown)" if _SECRET.search(name) else environ[name]
    return found


def compatibility_warning(torch: str, torch_npu: str, cann: str | None = None) -> str | None:
    """Say if versions do not belong together, by the table in data/compatibility.toml.

    Returns None for a documented pairing and also for a torch_npu that the table does not know.
    """
    sets = tomllib.loads(_COMPATIBILITY.read_text(encoding="utf-8"))["set"]
    for known in sets:
        if known["torch_npu"] != torch_npu:
            continue
        if torch.split("+")[0] != known["torch"]:
            return f"torch_npu {torch_npu} is made for torch {known['torch']}, found {torch}"
        if cann and "cann" in known and not cann.startswith(known["cann"]):
            return f"torch_npu {torch_npu} is documented with CANN {known['cann']}, found {cann}"
    return None


def short() -> str:
    """One line for the header of a run."""
    npu = version("torch_npu")
    parts = [
        f"Python {sys.version_info.major}.{sys.version_info.minor}",
        *(f"{name} {version(name)}" for name in ("torch", "torch_npu", "timm", "torchvision")),
    ]
    warning = compatibility_warning(version("torch"), npu) if npu != "not installed" else None
    return ", ".join(parts) + (f" - WARNING: {warning}" if warning else "")


def _harness_version() -> str:
    from harness import __version__

    return __version__
