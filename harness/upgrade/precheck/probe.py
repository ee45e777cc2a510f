"""What a torch_npu does on the emulator: `python -m harness.upgrade.precheck.probe ...`.

Runs in the Python environment under test and prints one JSON line; `check.py` starts it and reads
it.  Every step that fails is an answer, not an error.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import harness  # noqa: F401  (before torch)

MARK = "PRECHECK "
# What harness/devices/npu.py takes from torch_npu; a test keeps both lists true.
REQUIRED = (
    "torch.npu.device_count",
    "torch.npu.set_device",
    "torch.npu.synchronize",
    "torch.npu.get_device_properties",
    "torch.npu.set_compile_mode",
    "torch.npu.config.allow_internal_format = False",  # can be written only
    "torch.npu.conv.allow_hf32",
    "torch.npu.matmul.allow_hf32",
    "torch.npu.empty_cache",
    "torch.npu.reset_peak_memory_stats",
    "torch.npu.max_memory_allocated",
    "torch.npu.max_memory_reserved",
)
# It does without these, and records less or other things then.
OPTIONAL = (
    "torch.npu.matmul.cube_math_type",
    "torch_npu.npu.utils.get_cann_version",
    "torch_npu.npu.utils.get_soc_version",
    "torch_npu.npu.utils.is_support_inf_nan",
    "torch_npu.npu.is_jit_compile_false",
    "torch_npu.npu.are_compatible_impl_enabled",
    "torch_npu.npu.get_mm_bmm_format_nd",
    "torch_npu.npu._get_deterministic_level",
    "torch_npu.npu.utils.get_task_queue_enable",
)
ABSENT = "absent"
# Options of torch_npu that change results or speed, asked with _npu_getOption.
OPTIONS = (
    *("ACL_PRECISION_MODE", "ACL_OP_SELECT_IMPL_MODE", "ACL_OPTYPELIST_FOR_IMPLMODE"),
    *("jitCompile", "ALLOW_INTERNAL_FORMAT", "MM_BMM_ND_ENABLE", "CUBE_MATH_TYPE"),
    *("ALLOW_MATMUL_HF32", "ALLOW_CONV_HF32", "TORCH_NPU_USE_COMPATIBLE_IMPL"),
    *("FORCE_ACLNN_OP_LIST", "ACL_OP_DEBUG_OPTION", "ACL_OP_COMPILER_CACHE_MODE"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Probe and print; the exit code is 0 unless the process dies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("architectures", nargs="*")
    given = parser.parse_args(arguments)
    os.environ.setdefault("TASK_QUEUE_ENABLE", "0")
    warnings.simplefilter("ignore")
    answer = probe(given.architectures)
    print("\n" + MARK + json.dumps(answer), flush=True)
    return 0


def probe(architectures: Sequence[str]) -> dict[str, Any]:
    """Versions, import, attributes and architectures, each with what came of it."""
    import torch

    from harness.devices import emulator
    from harness.system import environment

    versions = {
        name: environment.version(name) for name in ("torch", "torch_npu", "torchvision", "timm")
    }
    answer: dict[str, Any] = {"versions": versions, "problem": "", "emulator": ""}
    answer |= {"attributes": {}, "names": [], "options": {}, "models": {}}
    try:
        npu = emulator.load(emulator.EmulatorOptions(count=1))
        torch_npu = npu.import_torch_npu()
        torch.ones(1).npu()  # type: ignore[attr-defined]
    except emulator.MissingSymbol as error:
        answer["emulator"] = str(error)
        return answer
    except Exception as error:  # whatever a new version raises is the answer
        answer["problem"] = f"{type(error).__name__}: {_short(error)}"
        return answer
    roots = {"torch": torch, "torch_npu": torch_npu}
    answer["attributes"] = {path: _attribute(roots, path) for path in (*REQUIRED, *OPTIONAL)}
    answer["names"] = sorted(name for name in dir(torch_npu.npu) if not name.startswith("_"))
    answer["options"] = {name: _option(torch_npu, name) for name in OPTIONS}
    for name in architectures:
        answer["models"][name] = _model(npu, name)
    return answer


def _attribute(roots: dict[str, Any], path: str) -> str:
    """ "present" for a function, the value of a setting, "absent".

    A path that ends in "= False" is written, since it cannot be read.  torch_npu ignores names
    that it does not know, so that shows that the object is there and takes it.
    """
    path, _, written = path.partition(" = ")
    first, *rest = path.split(".")
    try:
        if written:
            setattr(functools.reduce(getattr, rest[:-1], roots[first]), rest[-1], False)
            return "taken"
        value = functools.reduce(getattr, rest, roots[first])
    except AttributeError:
        return ABSENT
    except Exception as error:
        return f"raises {type(error).__name__}"
    return "present" if callable(value) else str(value)


def _option(torch_npu: Any, name: str) -> str:
    """What torch_npu answers for an option: its value, "unset", or "absent" where it does not know.

    As it comes: nothing in this process has set one.
    """
    try:
        value = torch_npu._C._npu_getOption(name)
    except Exception as error:
        return f"raises {type(error).__name__}"
    if value is None:
        return ABSENT
    return (value.decode() if isinstance(value, bytes) else str(value)) or "unset"


def _model(npu: Any, name: str) -> dict[str, Any]:
    """One architecture on CPU and emulated NPU: its error, its operators, what fell back."""
    import torch

    from harness.devices import dispatcher
    from harness.execution.operators.counter import OperatorCounter
    from harness.upgrade.precheck import coverage, survey
    from harness.upgrade.precheck.survey import dtype_name

    try:
        listed = coverage.architectures().get(name, {}).get("dtypes", ["float32"])
        result, *halves = survey.compare(npu, name, *(getattr(torch, dtype) for dtype in listed))
        model, images = survey.build(name)
        model, images = model.to("npu"), images.to("npu")
        with torch.no_grad(), OperatorCounter() as counter, npu.listing_outputs():
            model(images)
            torch.npu.synchronize()  # type: ignore[attr-defined]
        return {
            "error": result.error,
            "agrees": result.agrees,
            "formats": listed,
            "half": {dtype_name(h.dtype): h.error for h in halves if not h.agrees},
            "operators": result.operators,
            "outputs": npu.outputs(),
            "fallbacks": dispatcher.without_kernel(list(counter.counts), "PrivateUse1"),
        }
    except Exception as error:  # an operator that is missing, most likely
        missing = npu.missing_operators()
        named = f" (the emulator lacks {', '.join(missing)})" if missing else ""
        return {"problem": f"{type(error).__name__}: {_short(error)}{named}"}


def _short(error: Exception) -> str:
    return " ".join(str(error).split("\n[ERROR]")[0].split())[:300]


if __name__ == "__main__":
    importlib.import_module("torch")
    sys.exit(main())
