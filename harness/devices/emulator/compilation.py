"""Compiles and links the emulator's libraries."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.devices.emulator.errors import EmulatorError
from harness.system import processor

# libascendcl does not depend on torch, libopapi does.  Thin libraries hold nothing: torch_npu
# calls dlsym on the handle of a library it knows by name, and dlsym searches the dependencies.
ASCENDCL_UNITS = (
    *("control", "fault_control", "memory", "runtime", "legacy_aclop", "stubs"),
    "allocator_keys",
)
OPAPI_UNITS = ("opapi_2", "opapi_1", "opapi_3")  # the slowest first
LOOP_UNITS = ("loops", "cann_loops")  # of libopapi too; optimised, without torch's headers
THIN_OVER_ASCENDCL = ("hccl", "acl_op_compiler", "ge_runner", "graph", "acl_tdt_channel")
THIN_OVER_OPAPI = ("nnopbase",)

# In the order of loading.
LIBRARIES = ("ascendcl", *THIN_OVER_ASCENDCL, "opapi", *THIN_OVER_OPAPI)

_FLAGS = ("-O1", "-fPIC", "-w", "-fvisibility=hidden")
_ATEN_FLAGS = ("-DAT_PER_OPERATOR_HEADERS",)  # see operators()
_LOOP_FLAGS = ("-O3", "-ffp-contract=off")  # every product and every sum is rounded

# What torch's headers demand of __cplusplus -> the compiler's option.
_STANDARDS = {201703: "-std=c++17", 202002: "-std=c++20", 202302: "-std=c++23"}
_MAX_JOBS = len(OPAPI_UNITS)  # up to 1 GB each
_BUILD_TIMEOUT_S = 900


@dataclass(frozen=True)
class Toolchain:
    """What a build depends on beside the sources."""

    compiler: tuple[str, ...]
    compiler_version: str
    torch_dir: Path
    torch_version: str
    torch_npu_dir: Path
    torch_npu_version: str

    @property
    def standard(self) -> str:
        """Option for the C++ standard that torch's headers demand; they say so themselves."""
        text = (self.torch_dir / "include" / "ATen" / "ATen.h").read_text(encoding="utf-8")
        demanded = max([201703, *map(int, re.findall(r"__cplusplus\s*<\s*(\d+)L", text))])
        return next((_STANDARDS[s] for s in sorted(_STANDARDS) if s >= demanded), "-std=c++23")

    @property
    def flags(self) -> str:
        """All options that decide what the compiler makes of the sources."""
        return " ".join((self.standard, *_FLAGS, *_ATEN_FLAGS, *_LOOP_FLAGS))

    @property
    def acl_include(self) -> Path:
        """Directory of CANN's headers in the torch_npu wheel."""
        return self.torch_npu_dir / "include" / "third_party" / "acl" / "inc"


def library_path(directory: Path, name: str) -> Path:
    """Path of one of `LIBRARIES` in a build."""
    return directory / f"lib{name}.so"


def compile_all(sources: Path, workspace: Path, toolchain: Toolchain) -> None:
    """Compile `LIBRARIES` into a folder, beside what is left over from that (``*.o``, ``*.h``).

    Raises:
        EmulatorError: The compiler failed; the message has its first complaint.
    """
    torch_include = toolchain.torch_dir / "include"

    def compile_unit(unit: str) -> None:
        includes = [f"-I{toolchain.acl_include}"]
        if unit in OPAPI_UNITS:
            named = workspace / f"{unit}.h"
            named.write_text(operators(sources, unit, torch_include), encoding="utf-8")
            includes += [*_ATEN_FLAGS, "-isystem", str(torch_include), "-include", str(named)]
        run(
            toolchain,
            [
                toolchain.standard,
                *_FLAGS,
                *(_LOOP_FLAGS if unit in LOOP_UNITS else ()),
                *includes,
                "-c",
                str(sources / f"{unit}.cpp"),
                "-o",
                str(workspace / f"{unit}.o"),
            ],
        )

    units = (*OPAPI_UNITS, *LOOP_UNITS, *ASCENDCL_UNITS, "thin")
    with ThreadPoolExecutor(max_workers=min(_MAX_JOBS, len(processor.affinity()))) as pool:
        for _ in pool.map(compile_unit, units):
            pass

    def link(name: str, parts: Sequence[str], needs: Sequence[str]) -> None:
        run(
            toolchain,
            [
                "-shared",
                "-o",
                str(library_path(workspace, name)),
                f"-Wl,-soname,lib{name}.so",
                "-Wl,--no-undefined",
                "-Wl,--no-as-needed",
                "-Wl,-rpath,$ORIGIN",
                *(str(workspace / f"{part}.o") for part in parts),
                f"-L{workspace}",
                *needs,
            ],
        )

    torch_lib = toolchain.torch_dir / "lib"
    link("ascendcl", ASCENDCL_UNITS, ["-ldl", "-lpthread"])
    for thin in THIN_OVER_ASCENDCL:
        link(thin, ["thin"], ["-lascendcl"])
    # torch is loaded before: its libraries are found by their names, wherever they lie.
    needs = ["-lascendcl", f"-L{torch_lib}", "-ltorch_cpu", "-lc10", "-lpthread"]
    link("opapi", (*OPAPI_UNITS, *LOOP_UNITS), needs)
    for thin in THIN_OVER_OPAPI:
        link(thin, ["thin"], ["-lopapi"])


def operators(sources: Path, unit: str, torch_include: Path) -> str:
    """Includes of the ATen operators that a unit may name.

    ATen/Functions.h, with all of them, takes longer to compile than the unit.
    """
    pending, seen, words = [f"{unit}.cpp"], set[str](), set[str]()
    while pending:
        name = pending.pop()
        if name not in seen and (sources / name).exists():
            seen.add(name)
            text = (sources / name).read_text(encoding="utf-8")
            pending += re.findall(r'^#include "(\w+\.\w+)"', text, re.MULTILINE)
            words |= set(re.findall(r"(?<![.\w])[a-z_]\w*", text))  # not methods of a tensor
    headers = {path.stem for path in (torch_include / "ATen" / "ops").glob("*.h")}
    return "".join(f"#include <ATen/ops/{name}.h>\n" for name in sorted(words & headers))


def run(toolchain: Toolchain, arguments: Sequence[str]) -> None:
    """Call the compiler; EmulatorError with its first complaint when it fails."""
    command = [*toolchain.compiler, *arguments]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmulatorError(
            f"the C++ compiler failed while building the emulator: {error}."
        ) from error
    if result.returncode == 0:
        return
    lines = result.stderr.splitlines()
    reason = next((line for line in lines if "error" in line or "undefined" in line), "")
    raise EmulatorError(
        f"building the emulator with {' '.join(toolchain.compiler)} against torch "
        f"{toolchain.torch_version} and torch_npu {toolchain.torch_npu_version} failed: "
        f"{reason or (lines or ['no message'])[-1]} (command: {shlex.join(command)})."
    )
