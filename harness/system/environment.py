"""Versions and settings that a result depends on."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.system import releases, shown
from harness.system.messages import say
from harness.system.toml import tomllib

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
_SETTINGS = ("ASCEND_", "ACL_", "TORCH_NPU_", "HCCL_", "TASK_QUEUE_", "INF_NAN_", "OMP_", "MKL_",
             "ACLNN_", "PYTORCH_NPU_", "PYTORCH_ALLOC_CONF", "COMBINED_ENABLE", "PER_STREAM_QUEUE",
             "MULTI_STREAM_MEMORY_REUSE", "FORCE_OVERFLOW_CHECK", "PYTORCH_NO_NPU_MEMORY_CACHING",
             "OP_HOOK_ENABLE", "NPU_FUZZY_COMPILE_BLACKLIST", "TORCH_TRANSFER_TO_NPU")  # fmt: skip
# Settings, and beginnings of settings, whose values are shown: they change results or timings and
# hold no secret by what they mean.  Of every other one its being set is enough.
_SHOWN = (
    "ACL_OP_COMPILER_CACHE_MODE", "ACL_OP_DETERMINISTIC", "ACL_OP_SELECT_IMPL_MODE",
    "ACL_PRECISION_MODE",
    "ASCEND_AICPU_PATH", "ASCEND_GLOBAL_EVENT_ENABLE", "ASCEND_GLOBAL_LOG_LEVEL",
    "ASCEND_HOME_PATH", "ASCEND_LAUNCH_BLOCKING", "ASCEND_MAX_OP_CACHE_SIZE", "ASCEND_OPP_PATH",
    "ASCEND_RT_VISIBLE_DEVICES", "ASCEND_SLOG_PRINT_TO_STDOUT", "ASCEND_TOOLKIT_HOME",
    "HCCL_ALGO", "HCCL_BUFFSIZE", "HCCL_CONNECT_TIMEOUT", "HCCL_DETERMINISTIC",
    "HCCL_EXEC_TIMEOUT", "HCCL_OP_EXPANSION_MODE",
    "INF_NAN_MODE_ENABLE", "INF_NAN_MODE_FORCE_DISABLE",
    "MKL_", "OMP_", "TASK_QUEUE_ENABLE",
    "ACLNN_CACHE_LIMIT", "COMBINED_ENABLE", "FORCE_OVERFLOW_CHECK", "MULTI_STREAM_MEMORY_REUSE",
    "NPU_FUZZY_COMPILE_BLACKLIST", "OP_HOOK_ENABLE", "PER_STREAM_QUEUE", "PYTORCH_ALLOC_CONF",
    "PYTORCH_NPU_ALLOC_CONF", "PYTORCH_NO_NPU_MEMORY_CACHING",
    "TORCH_NPU_LAZY_FUSION", "TORCH_NPU_LEGACY_IMPL_LIST", "TORCH_NPU_USE_COMPATIBLE_IMPL",
    "TORCH_NPU_WARNING_DISABLE", "TORCH_TRANSFER_TO_NPU",
)  # fmt: skip
HIDDEN = "(set, not shown)"
# A name inside an allowed beginning (OMP_..._TOKEN) that says what its value is.
_SECRET = re.compile(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
_HOME = re.compile(r"(?<![\w.])/(?:home|Users)/[^/\s:'\"]+|(?<![\w./])/root(?=[/\s:'\"]|$)")
_TORCH_PIN = re.compile(r"torch\s*\(?==\s*([\w.+]+)")
_DRIVER = Path("/usr/local/Ascend/driver/version.info")
_COMPATIBILITY = Path(__file__).with_name("compatibility.toml")


def version(package: str) -> str:
    """Version of an installed package, without importing it; "not installed" otherwise."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def driver_version() -> str | None:
    """Version of the NPU's driver as its installer wrote it down; None where there is none."""
    return _written_version(_DRIVER)


def capture(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Versions, platform and every setting of torch_npu and CANN in the environment.

    Imports none of the packages.  This is what records, pages and ports show: values of known
    settings only, none that looks like a credential, and homes as `~`.
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
            known = name.startswith(_SHOWN) and not _SECRET.search(name)
            found[name] = masked(environ[name]) if known else HIDDEN
    return found


def masked(value: str) -> str:
    """A value as files show it: `HIDDEN` for what looks like a credential, homes as `~`."""
    return HIDDEN if shown.is_credential(value) else without_homes(value)


def redacted(text: str) -> str:
    """Prose as files show it: without credentials, homes as `~`."""
    return without_homes(shown.without_credentials(text))


def without_homes(text: str) -> str:
    """Text with the home folders of users as `~`: they hold names of people."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    return _HOME.sub("~", text)


def differences(
    old: Mapping[str, str], new: Mapping[str, str], absent: str
) -> list[tuple[str, str, str]]:
    """Name, before, after of everything that differs; `absent`: what stands for no value."""
    return [
        (name, old.get(name, absent), new.get(name, absent))
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


@dataclasses.dataclass(frozen=True)
class Warned:
    """Something about versions or settings that changes results or fails later.

    `level`: "note" or "warning".
    """

    what: str
    remedy: str
    level: str = "warning"


@functools.cache
def compatibility() -> dict[str, Any]:
    """The table in compatibility.toml: `minimum`, `setting`."""
    return tomllib.loads(_COMPATIBILITY.read_text(encoding="utf-8"))


def compatibility_warning(torch: str, torch_npu: str, cann: str | None = None) -> str | None:
    """Say if versions do not belong together, by torch_npu's own tables (`releases`).

    A warning, never a refusal: people do run other pairs.  Returns None for a documented pairing,
    for local versions of one as well, and where CANN or torch_npu is not in the tables.
    """
    wanted = releases.torch_of(torch_npu)
    if wanted is not None and torch.partition("+")[0] != wanted:
        english = "torch_npu {npu} is made for torch {wanted}, found {torch}"
        return say("pair.torch", english, npu=torch_npu, wanted=wanted, torch=torch)
    if cann and not releases.cann_fits(torch_npu, cann):
        documented = ", ".join(releases.CANN_OF_ALL)
        english = "torch_npu {npu} is documented with CANN {documented}, found {cann}"
        return say("pair.cann", english, npu=torch_npu, documented=documented, cann=cann)
    return None


def torchvision_warning() -> str | None:
    """Say if the installed torchvision was made for another torch, by what it asks pip for."""
    torch = version("torch")
    try:
        wanted = importlib.metadata.requires("torchvision") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    exact = next((match[1] for text in wanted if (match := _TORCH_PIN.match(text))), None)
    if exact is None or not torch[:1].isdigit() or torch.split("+")[0] == exact.split("+")[0]:
        return None
    return f"torchvision {version('torchvision')} is made for torch {exact}, found {torch}"


def cann_home(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where the CANN that was sourced stands; None when none was."""
    home = environ.get("ASCEND_HOME_PATH") or environ.get("ASCEND_TOOLKIT_HOME")
    return Path(home) if home else None


def cann_version(environ: Mapping[str, str] = os.environ) -> str | None:
    """Version of the CANN that was sourced, as its installer wrote it down; None if unknown.

    The same files as torch_npu's collect_env reads: ascend_*_install.info.
    """
    home = cann_home(environ)
    if home is None:
        return None
    for pattern in ("ascend_*_install.info", "*/ascend_*_install.info"):
        for path in sorted(home.glob(pattern)):
            if found := _written_version(path):
                return found
    return None


def visible_devices_warning(environ: Mapping[str, str] = os.environ) -> Warned | None:
    """CANN shows no device at all when the list is not strictly ascending."""
    from harness.system import visible_devices

    text = environ.get(visible_devices.VARIABLE)
    if text is None:
        return None
    numbers = visible_devices.listed(text)
    if numbers is None:
        return Warned(
            f"ASCEND_RT_VISIBLE_DEVICES={masked(text)!r} is no list of device numbers",
            "Unset it, or give numbers such as 0,1.",
        )
    ascending = sorted(set(numbers))
    if numbers == ascending:
        return None
    return Warned(
        f"ASCEND_RT_VISIBLE_DEVICES={text} is not strictly ascending: CANN then shows no device",
        f"Set ASCEND_RT_VISIBLE_DEVICES={','.join(map(str, ascending))}.",
    )


def setting_warnings(environ: Mapping[str, str] = os.environ) -> list[Warned]:
    """Settings in the environment that change results or timings in silence."""
    return [
        Warned(f"{row['name']}={environ[row['name']]}: {row['means']}", row["remedy"], row["level"])
        for row in compatibility()["setting"]
        if re.fullmatch(row["values"], environ.get(row["name"], ""), re.IGNORECASE)
    ]


def short(environ: Mapping[str, str] = os.environ) -> str:
    """One line for the header of a run: versions, and what `doctor` would warn of at once."""
    npu = version("torch_npu")
    cann = cann_version(environ)
    parts = [
        f"Python {sys.version_info.major}.{sys.version_info.minor}",
        *(f"{name} {version(name)}" for name in ("torch", "torch_npu", "timm", "torchvision")),
    ]
    if home := cann_home(environ):
        parts.append(f"CANN {cann or f'of unknown version in {home}'}")
    warned: list[str | None] = [torchvision_warning()]
    if npu != "not installed":
        warned.append(compatibility_warning(version("torch"), npu, cann))
        more = [visible_devices_warning(environ), *setting_warnings(environ)]
        warned += [item.what for item in more if item is not None and item.level == "warning"]
    told = "; ".join(text for text in warned if text)
    hint = f" - WARNING: {told} (python -m harness doctor)" if told else ""
    return ", ".join(parts) + hint


def _written_version(path: Path) -> str | None:
    """The `version=` line of a file that an installer of CANN or the driver left."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^version\s*=\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else None


def _harness_version() -> str:
    from harness import __version__

    return __version__
