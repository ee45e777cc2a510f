"""What a CPU leg depends on, in full: the key under which it is stored.

Two legs with one key would give the same bits on one machine; whatever could change them is in the
key, and nothing that could not: neither the device, nor torch_npu, nor any path.  The model is not
built for it: the bytes of config.json and of the weights file stand for the model.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.execution.cpu_variants import CpuVariant
from harness.execution.own_module import AnyModel
from harness.system import environment, own_models, processor
from harness.system.files import ROOT

if TYPE_CHECKING:
    from harness.execution.legs import LegRequest
    from harness.judgement.arithmetic import Arithmetic

Key = dict[str, Any]

# Raised when the stored form changes.
_SCHEMA = 2
# The files and rooms that make a CPU leg's outputs: a changed rule must not be answered by an old
# leg.  A test holds them against what `legs` imports.
SOURCES = (
    "cases/inputs.py",
    "cases/samples.py",
    "cases/models",
    "devices/cpu.py",
    "devices/device.py",
    "devices/dispatcher.py",
    "execution/aten.py",
    "execution/autocast.py",
    "execution/cpu_variants.py",
    "execution/gelu.py",
    "execution/imitation.py",
    "execution/legs.py",
    "execution/outputs.py",
    "execution/own_module.py",
    "execution/widening.py",
    "judgement/arithmetic.py",
    "system/files.py",
    "system/foreign.py",
)
# And those of an error's shares.
SHARES_SOURCES = (
    *SOURCES,
    "cases/needed_memory.py",
    "devices/module_path.py",
    "execution/roundings.py",
    "execution/shares.py",
    "judgement/shares.py",
)
# Settings that choose kernels or change a model's graph (TIMM_FUSED_ATTN).
_SETTINGS = ("ATEN_", "DNNL_", "MKL_", "ONEDNN_", "TIMM_")
# In the key by their content instead.
_BY_CONTENT = ("model", "inputs")


def model_key(model: AnyModel) -> Key:
    """What loading a model depends on: its files, the options of loading, timm and torch.

    Raises CaseProblem or OSError when the directory is none that can be loaded.
    """
    return {
        "schema": _SCHEMA,
        "kind": "model",
        **model.key(),
        "software": _software(),
    }


def leg_key(request: LegRequest, variant: CpuVariant) -> Key:
    """What a CPU leg depends on.

    Every field of request and variant is in it, one that is added later as well.  The number of
    threads is: it may change the order of sums.  Raises as `model_key` does.
    """
    fields = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    return {
        **model_key(request.model),
        "kind": "leg",
        "inputs_sha256": request.inputs.sha256,
        "leg": {name: value for name, value in fields.items() if name not in _BY_CONTENT},
        "variant": dataclasses.asdict(variant),
        "cpu": _cpu(),
    }


def shares_key(
    request: LegRequest, arithmetic: Arithmetic, names: Sequence[str], directions: int
) -> Key:
    """What the shares of an error depend on, as `CpuSide.shares` takes it.  Raises as `leg_key`."""
    leg = leg_key(request.on_cpu(dtype="float32"), CpuVariant(imitate=arithmetic))
    return {
        **leg,
        "kind": "shares",
        "outputs": list(names),
        "directions": directions,
        "software": _software(SHARES_SOURCES),
    }


def sources(names: Sequence[str] = SOURCES) -> list[Path]:
    """The files of `SOURCES`, or of others named like them, in a fixed order."""
    named = [ROOT / "harness" / name for name in names]
    return sorted(
        file for path in named for file in (path.glob("*.py") if path.is_dir() else [path])
    )


@functools.cache
def _software(names: Sequence[str] = SOURCES) -> Mapping[str, str]:
    own = hashlib.sha256()
    for path in sources(names):
        own.update(path.read_bytes())
    build = hashlib.sha256(torch.__config__.show().encode()).hexdigest()
    return {
        "torch": torch.__version__,
        "torch_build": build[:16],  # MKL and oneDNN with their versions, compiler, flags
        "timm": environment.version("timm"),
        "harness": own.hexdigest()[:16],
        "own_models": own_models.fingerprint(),
    }


def _cpu() -> Key:
    settings = {
        name: environment.masked(value)
        for name, value in os.environ.items()
        if name.startswith(_SETTINGS)
    }
    return {
        "machine": platform.machine(),
        # MKL and oneDNN look at more than the capability: the maker, and sets such as AMX.
        "processor": [processor.name(), *processor.instruction_sets()],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "mkldnn": str(torch.backends.mkldnn.enabled),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        **dict(sorted(settings.items())),
    }
