"""`python -m harness doctor`: is everything here that a run needs, and what to do if not.

Imports neither torch nor torch_npu: what may be broken is asked in processes of their own.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.devices import npu_probe
from harness.devices.spec import DeviceSpec, parse
from harness.entry.doctor import elsewhere
from harness.entry.install.environment import taken
from harness.system import environment, files, private
from harness.system.status import ExitCode

_OLDEST_PYTHON = (3, 10)
# The emulator's build, the sample model and the references of a core run.
_DISK_BYTES = 3 * 10**9
_README = "docs/install.md"

# Below this share of the modules a start takes hardly longer.
_MANY_COMPILED = 0.3


class Level(enum.Enum):
    """How much a finding matters, least first."""

    FINE = "fine"
    NOTE = "note"  # worth knowing; nothing to do for this device
    WARNING = "warning"  # results may differ from what is expected
    FAILURE = "failure"  # a run on this device will fail


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at; `remedy` is empty where there is nothing to do."""

    check: str
    level: Level
    found: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True)
class Examination:
    """All findings for one device ("auto" is settled as a run would)."""

    device: DeviceSpec
    findings: tuple[Diagnosis, ...]

    @property
    def exit_code(self) -> ExitCode:
        """0, or 1 when something will fail."""
        bad = any(finding.level is Level.FAILURE for finding in self.findings)
        return ExitCode.FAILED if bad else ExitCode.OK


def examine(device: str = "auto") -> Examination:
    """Look at everything that a run on `device` needs.

    Raises UsageProblem for a device that does not exist by name.
    """
    spec = None if device.strip() == "auto" else parse(device)
    questions: tuple[Callable[[], Any], ...] = (
        elsewhere.imports,
        elsewhere.plain_import,
        npu_probe.probe,
    )
    with ThreadPoolExecutor(len(questions)) as pool:
        imports, plain, npu = [task.result() for task in [pool.submit(q) for q in questions]]
    wanted = spec or DeviceSpec("npu" if npu.devices else "npu-emulated")
    findings = [
        *_python(imports),
        *_stack(),
        *_packages(),
        *_torch(imports, wanted),
        *_timm(imports),
        *_torch_npu(wanted),
        *_autoload(plain, imports),
        *_cann(wanted),
        *_npu(npu, spec, wanted),
        _emulator(wanted),
        *_settings(),
        _cache(),
    ]
    return Examination(wanted, tuple(findings))


def document(found: Examination) -> dict[str, Any]:
    """The JSON form."""
    return {
        "device": str(found.device),
        "emulated": found.device.emulated,
        "exit_code": int(found.exit_code),
        "short": environment.short(),
        "findings": [
            {
                "check": item.check,
                "level": item.level.value,
                "found": item.found,
                "remedy": item.remedy or None,
            }
            for item in found.findings
        ],
        "environment": environment.capture(),
    }


def _python(imports: Mapping[str, Any]) -> list[Diagnosis]:
    text = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        return [Diagnosis("python", Level.FAILURE, text, f"Use Python {oldest} or newer.")]
    found = [Diagnosis("python", Level.FINE, text)]
    compiled = imports.get("compiled")
    if compiled and compiled["anew"] > _MANY_COMPILED * compiled["of"]:
        text = (
            f"every process compiles {compiled['anew']} modules of Python anew and starts seconds "
            "later, since it may not keep them (PYTHONDONTWRITEBYTECODE, or a read-only folder)"
        )
        remedy = (
            f"Once, as who may write there: {sys.executable} -m compileall -q {compiled['folder']}"
        )
        found.append(Diagnosis("bytecode", Level.NOTE, text, remedy))
    return found


def _stack() -> list[Diagnosis]:
    """Which stack the installation took, where it was `make` that installed."""
    found = taken()
    if found is None:
        return []
    stack, why = found
    return [Diagnosis("stack", Level.FINE, f"stack {stack}: {why}")]


def _packages() -> list[Diagnosis]:
    """Packages that the harness needs: there, and new enough."""
    needed: dict[str, str] = environment.compatibility()["minimum"]
    versions = {name: environment.version(name) for name in needed}
    absent = [name for name, version in versions.items() if version == "not installed"]
    old = [
        f"{name} {version} (needed: {needed[name]})"
        for name, version in versions.items()
        if name not in absent and _older(version, needed[name])
    ]
    remedy = f"Install the whole set with one command: {_README}."
    found = [
        Diagnosis("packages", Level.FAILURE, f"{text}: {', '.join(names)}", remedy)
        for text, names in (("not installed", absent), ("too old", old))
        if names
    ]
    text = f"all {len(needed)} packages are there and new enough"
    return found or [Diagnosis("packages", Level.FINE, text)]


def _older(version: str, oldest: str) -> bool:
    if environment.version("packaging") == "not installed":  # which is told by itself
        return False
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) < Version(oldest)
    except InvalidVersion:
        return False


def _torch(imports: Mapping[str, Any], wanted: DeviceSpec) -> list[Diagnosis]:
    version = environment.version("torch")
    if version == "not installed":
        return []  # told among the packages
    answer = imports.get("torch", {"error": imports["problem"]})
    if "error" in answer:
        remedy = f"Install torch anew, with what belongs to it in one command: {_README}."
        text = f"torch {version} does not import: {answer['error']}"
        return [Diagnosis("torch", Level.FAILURE, text, remedy)]
    build = f"CUDA {answer['cuda']} build" if answer["cuda"] else "CPU build"
    text = f"torch {version}, {build}, {answer['threads']} CPU thread(s)"
    found = [Diagnosis("torch", Level.FINE, text)]
    if wanted.kind == "cuda" and not answer["gpus"]:
        remedy = "Install a CUDA build of torch and check nvidia-smi, or choose another device."
        found.append(Diagnosis("cuda", Level.FAILURE, "torch sees no CUDA device", remedy))
    return found


def _timm(imports: Mapping[str, Any]) -> list[Diagnosis]:
    if "error" in imports.get("torch", {"error": ""}):
        return []  # timm cannot be asked without torch
    found = []
    if text := environment.torchvision_warning():
        remedy = f"Install torchvision and torch with one command: {_README}."
        found.append(Diagnosis("torchvision", Level.WARNING, text, remedy))
    version = environment.version("torchvision")
    if shim := imports.get("torchvision", {}).get("shim"):
        text = f"torchvision {version}: {shim}; the transforms work, which are all that is used"
        found.append(Diagnosis("torchvision", Level.NOTE, text))
    elif not found and version != "not installed":
        found.append(Diagnosis("torchvision", Level.FINE, f"torchvision {version}"))
    answer = imports.get("timm", {"error": imports["problem"]})
    version = environment.version("timm")
    if "error" in answer:
        remedy = f"Install timm and torchvision anew, with torch in one command: {_README}."
        text = f"timm {version} does not import: {answer['error']}"
        return [*found, Diagnosis("timm", Level.FAILURE, text, remedy)]
    return [*found, Diagnosis("timm", Level.FINE, f"timm {version}")]


def _torch_npu(wanted: DeviceSpec) -> list[Diagnosis]:
    needed = wanted.kind in ("npu", "npu-emulated")
    if not npu_probe.has_torch_npu():
        level = Level.FAILURE if needed else Level.NOTE
        remedy = f"Install it with its torch in one command: {_README}." if needed else ""
        return [Diagnosis("torch_npu", level, "torch_npu is not installed", remedy)]
    version = environment.version("torch_npu")
    found = []
    if cuda := npu_probe.cuda_build():
        level = Level.FAILURE if wanted.kind == "npu" else Level.NOTE
        text = (
            f"torch is a CUDA {cuda} build, beside which torch_npu {version} does not work on a "
            "real NPU; the emulated one does"
        )
        remedy = f"For a real NPU install the CPU build of the same torch: {_README}."
        found.append(Diagnosis("torch_npu", level, text, remedy))
    pairing = environment.compatibility_warning(
        environment.version("torch"), version, environment.cann_version()
    )
    if pairing:
        remedy = f"Install versions that belong together, in one command: {_README}."
        found.append(Diagnosis("torch_npu", Level.WARNING, pairing, remedy))
    return found or [Diagnosis("torch_npu", Level.FINE, f"torch_npu {version}")]


def _autoload(error: str | None, imports: Mapping[str, Any]) -> list[Diagnosis]:
    """Whether a plain `import torch` works, in other programs than this harness."""
    if not npu_probe.has_torch_npu() or "error" in imports.get("torch", {"error": ""}):
        return []  # torch fails by itself
    if error is None:
        return [Diagnosis("autoload", Level.FINE, "a plain `import torch` works beside torch_npu")]
    text = f"a plain `import torch` fails, since it loads torch_npu: {error}"
    remedy = (
        "`source` CANN's set_env.sh first, or set TORCH_DEVICE_BACKEND_AUTOLOAD=0. The harness "
        "does the latter by itself; other programs do not."
    )
    return [Diagnosis("autoload", Level.NOTE, text, remedy)]


def _cann(wanted: DeviceSpec) -> list[Diagnosis]:
    """CANN and driver as they are on disk; whether they work is asked of torch_npu."""
    home, driver = environment.cann_home(), environment.driver_version()
    version = environment.cann_version() or "of unknown version"
    found = []
    if home is not None and not home.is_dir():
        text = f"ASCEND_HOME_PATH names {home}, which does not exist"
        level = Level.FAILURE if wanted.kind == "npu" else Level.WARNING
        remedy = "`source` the set_env.sh of the CANN that is installed, in a new shell."
        found.append(Diagnosis("cann", level, text, remedy))
    elif home is not None:
        found.append(Diagnosis("cann", Level.FINE, f"CANN {version} in {home}"))
    else:
        text = "no CANN is sourced (neither ASCEND_HOME_PATH nor ASCEND_TOOLKIT_HOME is set)"
        found.append(Diagnosis("cann", Level.NOTE, text))
    if driver is not None:
        found.append(Diagnosis("driver", Level.FINE, f"NPU driver {driver}"))
    elif wanted.kind == "npu":
        text = "no NPU driver is written down where its installer does"
        found.append(Diagnosis("driver", Level.NOTE, text, "Check it with `npu-smi info`."))
    else:
        found.append(Diagnosis("driver", Level.NOTE, "no NPU driver"))
    return found


def _npu(npu: npu_probe.Probe, spec: DeviceSpec | None, wanted: DeviceSpec) -> list[Diagnosis]:
    found = []
    if warned := environment.visible_devices_warning():
        level = Level.FAILURE if spec is not None and spec.kind == "npu" else Level.WARNING
        found.append(Diagnosis("visible devices", level, warned.what, warned.remedy))
    elif "ASCEND_RT_VISIBLE_DEVICES" in os.environ:
        text = f"ASCEND_RT_VISIBLE_DEVICES={os.environ['ASCEND_RT_VISIBLE_DEVICES']}"
        found.append(Diagnosis("visible devices", Level.FINE, text))
    if npu.devices:
        text = f"{npu.devices} NPU(s) are visible"
        if wanted.kind == "npu" and wanted.index >= npu.devices:
            remedy = f"Choose one of npu:0 to npu:{npu.devices - 1}."
            return [*found, Diagnosis("npu", Level.FAILURE, f"{text}, no {wanted}", remedy)]
        return [*found, Diagnosis("npu", Level.FINE, text)]
    remedy = npu.paragraph.removeprefix("No NPU: ")
    if wanted.kind == "npu":
        return [*found, Diagnosis("npu", Level.FAILURE, npu.short, remedy)]
    text = f"no NPU: {npu.short}"
    if spec is None and npu_probe.has_torch_npu():
        text += "; `--device auto` takes the emulated one, whose results are EMULATED"
    return [*found, Diagnosis("npu", Level.NOTE, text, remedy)]


def _emulator(wanted: DeviceSpec) -> Diagnosis:
    from harness.devices.emulator import EmulatorError, build

    try:
        tools = build.find_toolchain()
    except EmulatorError as error:
        level = Level.FAILURE if wanted.emulated else Level.NOTE
        return Diagnosis("emulator", level, "the emulated NPU cannot be built", str(error))
    return Diagnosis(
        "emulator", Level.FINE, f"the emulated NPU builds with {tools.compiler_version}"
    )


def _settings() -> list[Diagnosis]:
    found = [
        Diagnosis("setting", Level(warned.level), warned.what, warned.remedy)
        for warned in environment.setting_warnings()
    ]
    text = "no setting that changes results in silence"
    return found or [Diagnosis("settings", Level.FINE, text)]


def _cache() -> Diagnosis:
    directory = files.default_cache_dir()
    remedy = "Set HARNESS_CACHE_DIR to a directory on a disk with room."
    try:
        private.make(directory)
        files.check_writable(directory / "any")
        free = shutil.disk_usage(directory).free
    except private.NotOurs as error:
        text = f"the cache {directory} cannot be believed: {error.strerror}"
        return Diagnosis("cache", Level.FAILURE, text, "Take that right away: chmod 700.")
    except OSError as error:
        text = f"the cache {directory} cannot be written ({error.strerror})"
        return Diagnosis("cache", Level.FAILURE, text, remedy)
    text = f"cache {directory}, {free / 1e9:.1f} GB free"
    if free < _DISK_BYTES:
        return Diagnosis("cache", Level.WARNING, text, remedy)
    return Diagnosis("cache", Level.FINE, text)
