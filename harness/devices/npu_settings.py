"""Settings of torch_npu that change results: read back from it, never guessed from the environment.

User code may set options at any time (`torch_npu._C._npu_setOption`), so that only the option query
tells what is in force.  Releases differ: what one has not is left out, or recorded as absent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.system import files

# Options that `_npu_getOption` knows; b"" is unset, torch_npu's own default.
OPTIONS = (
    "ACL_PRECISION_MODE",
    "ACL_OP_SELECT_IMPL_MODE",
    "ACL_OPTYPELIST_FOR_IMPLMODE",
    "jitCompile",
    "ALLOW_INTERNAL_FORMAT",
    "MM_BMM_ND_ENABLE",
    "CUBE_MATH_TYPE",
    "TORCH_NPU_USE_COMPATIBLE_IMPL",
)
COMPATIBLE = "TORCH_NPU_USE_COMPATIBLE_IMPL"
_KEEP_DTYPE = "KEEP_DTYPE"  # of torch_npu's CubeMathType: no lowered precision


def before_load(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What has to stand in the environment before torch_npu is loaded, unless the user set it.

    With the default task queue torch_npu raises an operator's failure once and then silently drops
    every later operator, so that the queue is off; but fusion that a user asks for
    (TORCH_NPU_LAZY_FUSION) works with the queue only, and is then what is tested.
    """
    asked = environ.get("TORCH_NPU_LAZY_FUSION", "").strip().lower()
    fuses = asked not in ("", "0", "false", "off")
    return {"TASK_QUEUE_ENABLE": "1" if fuses else "0"}


def option(torch_npu: Any, name: str) -> str | None:
    """An option's value, "" where it is unset; None where torch_npu cannot be asked."""
    try:
        value = torch_npu._C._npu_getOption(name)
    except Exception:  # an older release
        return None
    return "" if value is None else bytes(value).decode(errors="replace")


def described(torch_npu: Any) -> dict[str, str]:
    """What is in force, by name, for a device's description."""
    import torch

    found = {
        f"option {name}": value or "unset"
        for name in OPTIONS
        if (value := option(torch_npu, name)) is not None
    }
    for name, path in (
        ("compatible_impl", "npu.are_compatible_impl_enabled"),
        ("mm_bmm_format_nd", "npu.get_mm_bmm_format_nd"),
        ("deterministic_level", "npu._get_deterministic_level"),
    ):
        value = call(torch_npu, path)
        if value is not None:
            found[name] = str(value)
    found["deterministic_algorithms"] = str(torch.are_deterministic_algorithms_enabled())
    with contextlib.suppress(Exception):  # the name of the device is not known everywhere
        on = torch.is_autocast_enabled("npu")
        found["autocast"] = str(torch.get_autocast_dtype("npu")) if on else "off"
    return found


def task_queue(torch_npu: Any) -> str:
    """The queue mode that is in force; where torch_npu does not tell, the one asked for."""
    mode = call(torch_npu, "npu.utils.get_task_queue_enable")
    return os.environ.get("TASK_QUEUE_ENABLE", "unset") if mode is None else str(mode)


def has_cube_math_type(torch_npu: Any) -> bool:
    """Whether matrix products have this setting: `hasattr` is true of any name there."""
    config = getattr(getattr(torch_npu, "npu", None), "npu_config", None)
    return hasattr(config, "_CubeMathType") or hasattr(config, "CubeMathType")


def keep_dtype(torch_npu: Any) -> Any:
    """The value of cube_math_type that lowers no precision."""
    config = torch_npu.npu.npu_config
    kinds = getattr(config, "_CubeMathType", None) or config.CubeMathType
    return getattr(kinds, _KEEP_DTYPE)


def has_compatible_impl(torch_npu: Any) -> bool:
    """Whether this release knows TORCH_NPU_USE_COMPATIBLE_IMPL: its library holds the name."""
    library = Path(torch_npu.__file__).parent / "lib" / "libtorch_npu.so"
    return files.holds(library, COMPATIBLE.encode())


def call(torch_npu: Any, path: str) -> Any:
    """Call torch_npu.<path>(); None where it does not exist or fails."""
    target: Any = torch_npu
    for part in path.split("."):
        target = getattr(target, part, None)
    if target is None:
        return None
    try:
        return target()
    except Exception:
        return None


class Formats:
    """Compilation at run time and internal formats: what came with torch_npu on this chip.

    Both affect tensors created later only, so they are set before any tensor of a leg.
    """

    def __init__(self, npu: Any, torch_npu: Any, *, emulated: bool) -> None:
        self._npu = npu
        # The emulator has neither; on a card "default" is as torch_npu comes there (a 910A compiles
        # at run time and has formats of its own, a 910B does not).
        self._jit = not emulated and call(torch_npu, "npu.is_jit_compile_false") is False
        came = option(torch_npu, "ALLOW_INTERNAL_FORMAT")
        self._internal = not emulated and came is not None and came != "disable"

    def apply(self, *, strict: bool) -> None:
        """Off in strict, else as they came."""
        self._npu.set_compile_mode(jit_compile=self._jit and not strict)
        self._npu.config.allow_internal_format = self._internal and not strict
