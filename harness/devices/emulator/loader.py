"""Loads the emulator's libraries into the process and talks to them.

Every library is loaded by path with its own SONAME and RTLD_GLOBAL, after torch and before
torch_npu: the names that torch_npu asks for are then already in the process, and neither
LD_LIBRARY_PATH nor an installed CANN is looked at.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from harness.devices import contract, emulated_kernels, npu_probe
from harness.devices.emulator.build import (
    clashes_with_cuda,
    ensure_built,
    find_torch_npu,
    is_untried,
)
from harness.devices.emulator.compilation import LIBRARIES, library_path
from harness.devices.emulator.errors import EmulatorError, MissingSymbol
from harness.devices.fault_plan import FaultPlan

MARKER = "harness_emulator_marker"
MAX_DEVICES = 8
_SMALLEST_MEMORY = 64 << 20
# How the names of CANN's functions begin; other undefined symbols are torch's.
_CANN_PREFIXES = ("acl", "Hccl", "Msprof", "rt", "ge", "nnop", "Op", "Aoe", "Ascend", "adx", "Prof")


@dataclass(frozen=True)
class EmulatorOptions:
    """What the emulated machine looks like; fixed for the life of a process.

    Attributes:
        count: Devices, 1 .. 8.
        soc: Chip name as CANN gives it; torch_npu must know it.
        memory_bytes: Memory of each device, at least 64 MiB.  Memory is only taken when used.
        cann_version: What CANN says its version is; "" makes the query fail, as before 8.1.RC1.

    Raises:
        ValueError: A value is out of range; the message names the field.
    """

    count: int = 1
    soc: str = "Ascend910B3"
    memory_bytes: int = 64 << 30
    cann_version: str = "8.5.0"

    def __post_init__(self) -> None:
        """Checks every field."""
        if not 1 <= self.count <= MAX_DEVICES:
            raise ValueError(f"count must be in 1 .. {MAX_DEVICES}, got {self.count!r}")
        if not self.soc.startswith("Ascend"):
            raise ValueError(f"soc must be a chip name such as Ascend910B3, got {self.soc!r}")
        if self.memory_bytes < _SMALLEST_MEMORY:
            raise ValueError(
                f"memory_bytes must be at least {_SMALLEST_MEMORY}, got {self.memory_bytes!r}"
            )
        if len(self.cann_version) > 60:
            raise ValueError(f"cann_version must be short, got {self.cann_version!r}")


@dataclass(frozen=True)
class EmulatedMemory:
    """Raw device allocations of one emulated device, in bytes."""

    used: int
    peak: int
    limit: int


class Emulator:
    """The emulated NPU of this process; `load` makes it."""

    def __init__(
        self,
        options: EmulatorOptions,
        directory: Path,
        library: ctypes.CDLL,
        operators: ctypes.CDLL,
    ) -> None:
        """Takes a loaded libascendcl and libopapi; use `load`."""
        self.options = options
        self.directory = directory
        self.torch_npu_version = find_torch_npu()[1]
        self._library = library
        self._operators = operators
        self._faults = FaultPlan()
        library.harness_emulator_set_kernels.argtypes = [ctypes.c_char_p] * 2
        library.harness_emulator_set_module.argtypes = [ctypes.c_char_p]
        for setting in ("kernels", "module"):
            getattr(library, f"harness_emulator_set_{setting}").restype = None
        for query in ("operator_counts", "missing_operators", "fault_effects", "outputs"):
            getattr(library, f"harness_emulator_{query}").restype = ctypes.c_char_p
        for command in ("reset_counters", "mark_calls", "rewind_calls", "list_outputs"):
            getattr(library, f"harness_emulator_{command}").restype = None
        self.set_kernels()
        self.set_contract()

    @property
    def untried(self) -> bool:
        """Whether no emulator was tried with this release of torch_npu before."""
        return is_untried(self.torch_npu_version)

    @property
    def library(self) -> ctypes.CDLL:
        """The loaded libascendcl, for tests that call CANN's C functions."""
        return self._library

    @property
    def faults(self) -> FaultPlan:
        """The plan in force; empty when there is none."""
        return self._faults

    def import_torch_npu(self) -> ModuleType:
        """Imports torch_npu on top of the emulator.

        Raises:
            MissingSymbol: torch_npu needs a function of CANN that the emulator lacks.
            EmulatorError: torch_npu does not load for another reason.
        """
        try:
            return importlib.import_module("torch_npu")
        except (ImportError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            untried = ", with which it was never tried" if self.untried else ""
            symbol = re.search(r"undefined symbol: (\w+)", reason)
            if symbol and symbol[1].startswith(_CANN_PREFIXES):
                raise MissingSymbol(
                    f"torch_npu {self.torch_npu_version} does not load on the emulator{untried}: "
                    f"undefined symbol: {symbol[1]}, a function of CANN that the emulator lacks. "
                    "The emulator is at fault, not this torch_npu: add the function to "
                    "harness/devices/emulator/src (stubs.cpp)."
                ) from error
            raise EmulatorError(
                f"torch_npu {self.torch_npu_version} does not load on the emulator{untried}: "
                f"{reason} (check that torch and torch_npu are of the same series)."
            ) from error

    def set_faults(self, plan: FaultPlan | None) -> None:
        """Replaces the fault plan (None: no faults) and starts its counts of calls at 0.

        Raises:
            EmulatorError: The libraries do not understand the plan.
        """
        plan = plan or FaultPlan()
        line = self._library.harness_emulator_set_faults(plan.to_wire().encode())
        if line:
            raise EmulatorError(
                f"the emulator's libraries do not understand fault {line} of the plan "
                f"({plan.faults[line - 1]}): the cached build does not fit the Python side."
            )
        self._faults = plan

    def set_module(self, path: str) -> None:
        """Says which module of a model runs, for faults that name one; "" for none."""
        self._library.harness_emulator_set_module(path.encode())

    @property
    def kernels(self) -> str:
        """Name of the kernels in force."""
        return self._kernels

    def set_kernels(self, name: str = emulated_kernels.DEFAULT) -> None:
        """Computes with other kernels from now on; synchronise before.

        Raises:
            ValueError: There are none of that name.
        """
        kernels, mistake = emulated_kernels.parts(name)
        self._library.harness_emulator_set_kernels(kernels.encode(), mistake.encode())
        self._kernels = name

    def set_contract(self, *, enforced: bool = True) -> None:
        """Has operators refuse what CANN as published refuses (`contract`), or compute it.

        Raises:
            EmulatorError: The libraries do not understand the contract.
        """
        rules = contract.to_wire() if enforced else ""
        if line := self._operators.harness_emulator_set_contract(rules.encode()):
            raise EmulatorError(
                f"the emulator's libraries do not understand line {line} of the contract: the "
                "cached build does not fit the Python side."
            )

    def reset_counters(self) -> None:
        """Sets the counts of operators, of missing ones and of faults to 0; the plan stays."""
        self._library.harness_emulator_reset_counters()

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        """What runs inside does not count as calls of the fault plan: they are yet to come."""
        self._library.harness_emulator_mark_calls()
        try:
            yield
        finally:
            self._library.harness_emulator_rewind_calls()

    def _query(self, name: str) -> list[str]:
        text: bytes = getattr(self._library, f"harness_emulator_{name}")()
        return text.decode().splitlines()

    def operator_counts(self) -> dict[str, int]:
        """Operators started since the last reset and how often, in the order of first use.

        torch_npu runs operators on a thread of its own unless TASK_QUEUE_ENABLE=0: synchronise
        before asking.
        """
        pairs = (line.split("\t") for line in self._query("operator_counts"))
        return {name: int(count) for name, count in pairs}

    @contextlib.contextmanager
    def listing_outputs(self) -> Iterator[None]:
        """What operators write inside is there for `outputs`; synchronise before the end."""
        self._library.harness_emulator_list_outputs(1)
        try:
            yield
        finally:
            self._library.harness_emulator_list_outputs(0)

    def outputs(self) -> dict[str, int]:
        """What was written while it was listed, and how often: "Add Float[2, 64]" -> 3.

        The few operators that write without the frame's help are not in it.
        """
        pairs = (line.split("\t") for line in self._query("outputs"))
        return {text: int(count) for text, count in pairs}

    def missing_operators(self) -> list[str]:
        """Operators that were asked for and that the emulator lacks, since the last reset.

        Legacy operators always appear.  An aclnn function that is not there is only seen by
        torch_npu itself (error ERR01004 names it); it appears here when torch_npu logs warnings,
        that is with ASCEND_GLOBAL_LOG_LEVEL at most 2, and only the first time in a process.
        """
        return self._query("missing_operators")

    def fault_effects(self) -> list[int]:
        """How often each fault of the plan had an effect, in the order of the plan."""
        return [int(line) for line in self._query("fault_effects")]

    def memory(self, device: int = 0) -> EmulatedMemory:
        """Raw device memory in use, its peak and its limit, in bytes.

        Raises:
            ValueError: There is no such device.
        """
        used, peak = ctypes.c_uint64(), ctypes.c_uint64()
        if self._library.harness_emulator_memory(device, ctypes.byref(used), ctypes.byref(peak)):
            raise ValueError(f"device must be in 0 .. {self.options.count - 1}, got {device!r}")
        return EmulatedMemory(used.value, peak.value, self.options.memory_bytes)


_loaded: Emulator | None = None


def loaded() -> Emulator | None:
    """The emulator of this process, None before `load`."""
    return _loaded


def is_emulated() -> bool:
    """True when "CANN" in this process is the emulator, however it was loaded."""
    return hasattr(ctypes.CDLL(None), MARKER)


def load(
    options: EmulatorOptions = EmulatorOptions(), *, cache_dir: Path | None = None
) -> Emulator:
    """Builds the emulator where needed and loads it; the caller then imports torch_npu.

    A second call with the same options returns the same object.

    Args:
        options: The machine to emulate.
        cache_dir: Where builds are kept; ``npu-accuracy/emulator`` below $XDG_CACHE_HOME or
            ~/.cache when not given.

    Raises:
        EmulatorError: The emulator cannot be built or loaded, torch_npu was imported before, or
            the process has an emulator with other options.
    """
    global _loaded
    if _loaded is not None:
        if _loaded.options == options:
            return _loaded
        raise EmulatorError(
            f"this process already has an emulator with {_loaded.options}; "
            f"{options} needs another process."
        )
    if "torch_npu" in sys.modules:
        raise EmulatorError(
            "torch_npu is imported already and has taken its CANN: load the emulator before it, "
            "in a fresh process."
        )
    directory = ensure_built(cache_dir)
    cuda = npu_probe.cuda_build()
    if cuda:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch_npu refuses beside a visible GPU
    importlib.import_module("torch")  # libopapi needs its libraries in the process
    ascendcl = opapi = ctypes.CDLL(None)
    for name in LIBRARIES:
        path = library_path(directory, name)
        try:
            handle = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise EmulatorError(
                f"the emulator's library {path} does not load ({error}): delete {directory} and "
                "try again."
            ) from error
        if name == "opapi":
            opapi = handle
        if name == "ascendcl":
            ascendcl = handle
            ascendcl.harness_emulator_configure.argtypes = [
                ctypes.c_int,
                ctypes.c_char_p,
                ctypes.c_uint64,
                ctypes.c_char_p,
            ]
            ascendcl.harness_emulator_configure(
                options.count,
                options.soc.encode(),
                options.memory_bytes,
                options.cann_version.encode(),
            )
    if cuda and clashes_with_cuda(find_torch_npu()[0]):
        if ascendcl.harness_emulator_forget_allocator_keys() < 0:
            raise EmulatorError(
                f"torch_npu {find_torch_npu()[1]} aborts beside this torch, a build for CUDA "
                f"{cuda}, whose libc10 the emulator does not know: install the CPU build of the "
                "same torch from PyTorch's CPU index."
            )
    _loaded = Emulator(options, directory, ascendcl, opapi)
    return _loaded
