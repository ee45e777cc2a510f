"""Reproducers: one operator call as a script and its tensors, to attach to a bug report.

A script needs PyTorch, safetensors and the device's extension, and nothing of this harness.  It
runs the operator on the device and in float64 on the CPU and says how far they are apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import torch

from harness.devices import emulation
from harness.devices.spec import EMULATED_MEANS
from harness.execution.operators.calls import Call, declared, first_result_only, stored
from harness.execution.operators.on_device import dense_order
from harness.judgement.localization import describe
from harness.judgement.operator_rows import RATIO_LIMIT, OperatorRow, culprits
from harness.system import environment, files
from harness.system.messages import say

if TYPE_CHECKING:
    from harness.judgement.arithmetic import Arithmetic
    from harness.records.leg import DeviceInfo

# Settings of torch_npu that the device had: some change which kernels are chosen.
_SETUP = {
    "npu": (
        "import torch_npu",
        "torch.npu.set_compile_mode(jit_compile=False)",
        "torch.npu.config.allow_internal_format = False",
    ),
    "cuda": (),
}
_SETTING = {"npu": "torch.npu.{}", "cuda": "torch.backends.{}"}
KEPT = 3
_RUNS = 10  # enough to see a fault that comes half of the time

_SCRIPT = Template('''\
"""$operator on $device against float64 on the CPU.

Found in $module, call $index of the forward pass, by an accuracy run on
$name$emulated, in $arithmetic:
$finding

Run: $run
Needs: torch, safetensors$extension; found with $versions.
Exit code: 1 when the difference shows, 0 when it does not, 3 when it could not be run.
"""
$emulation

import argparse
import math
import os
import sys
import traceback
from pathlib import Path

# A torch_npu that is installed and cannot load must not keep torch from being imported.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
try:
    import torch
    from safetensors.torch import load_file
except Exception:  # Python's own code would be that of a difference
    traceback.print_exc()
    sys.exit(3)

RECORDED_RMSE = $rmse  # of the device in the accuracy run, against float64
ALLOWED_RMSE = $allowed  # $limit times what $arithmetic costs here
RUNS = $runs  # results of which must be equal bit by bit


def arguments(t, device, dtype):
    """The very inputs and weights; `t`: name -> tensor."""
    return $args, $kwargs


def tensors(device, wide):
    """The stored tensors on a device, for the CPU in float64; always new ones."""
    loaded = load_file(Path(__file__).with_suffix(".safetensors"))
    if wide:
        loaded = {k: v.double() if v.is_floating_point() else v for k, v in loaded.items()}
    return {name: value.to(device) for name, value in loaded.items()}


def run(device, wide=False):
    args, kwargs = arguments(
        tensors(device, wide), torch.device(device), torch.float64 if wide else torch.$dtype
    )
    value = $function(*args, **kwargs)
    found = list(value) if isinstance(value, (tuple, list)) else [value]
    found = [x for x in found if isinstance(x, torch.Tensor)]$first_only
    found = [torch.view_as_real(x) if x.is_complex() else x for x in found]
    return [x.detach().cpu() for x in found if x.is_floating_point()] or [x.cpu() for x in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="$torch_device")
    device = parser.parse_args().device
    if device.startswith("$kind"):
$setup
    with torch.no_grad():
        exact = run("cpu", wide=True)
        runs = [run(device) for _ in range(RUNS)]
    shown = False
    for number, reference in enumerate(exact):
        got = runs[0][number]
        print(f"result {number}: {tuple(got.shape)} {got.dtype} on {device}")
        if got.shape != reference.shape:
            print(f"  float64 has the shape {tuple(reference.shape)}")
            shown = True
            continue
        error = (got.double() - reference.double()).abs()
        rmse = error.square().mean().sqrt().item()
        at = error.nan_to_num(math.inf).flatten().argmax().item()
        wrong = got.isfinite().logical_not() & reference.isfinite()
        differing = sum(
            (~torch.isclose(other[number], got, rtol=0, atol=0, equal_nan=True)).sum().item()
            for other in runs[1:]
        )
        print(f"  rmse against float64: {rmse:.6g} (recorded {RECORDED_RMSE:.6g}, allowed "
              f"{ALLOWED_RMSE:.6g})")
        print(f"  greatest error: {error.max().item():.6g} at element {at}: "
              f"{got.flatten()[at].item():.8g} for {reference.flatten()[at].item():.8g}")
        print(f"  NaN or infinite: {wrong.sum().item()}; elements that differ in {RUNS} runs: "
              f"{differing}")
        near = rmse >= RECORDED_RMSE / 2 > 0  # a single wrong slice may hide in the whole
        shown = shown or near or not rmse <= ALLOWED_RMSE or bool(wrong.any()) or differing > 0
    print("The difference shows." if shown else "No difference beyond rounding.")
    return int(shown)


if __name__ == "__main__":
    try:
        code = main()
    except Exception:
        traceback.print_exc()
        code = 3
    sys.exit(code)
''')


class Reproducers:
    """Writes the worst culprits of a pass as they come by: at most KEPT scripts are left.

    `device`, `numerics`: as the device describes itself, and its settings as read back.
    `problem`: why a script could not be written, "" when all could.
    """

    def __init__(
        self,
        device: DeviceInfo,
        declared: Arithmetic,
        numerics: Mapping[str, str],
        directory: Path,
    ) -> None:
        self.problem = ""
        self._device = device
        self._declared = declared
        self._numerics = numerics
        self._directory = directory
        self._kept: list[tuple[OperatorRow, str]] = []

    @property
    def written(self) -> list[str]:
        """Names of the scripts, the worst culprit first."""
        return [name for _, name in self._kept]

    def consider(self, call: Call, row: OperatorRow) -> None:
        """Write a call, with its arguments as they were, if its row is one of the worst."""
        if not culprits([row]) or self.problem:
            return
        if len(self._kept) == KEPT and row.severity <= self._kept[-1][0].severity:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._kept.append((row, self._write(call, row)))
            self._kept.sort(key=lambda kept: (-kept[0].severity, kept[0].index))
            for _, name in self._kept[KEPT:]:
                script = self._directory / name
                script.unlink()
                script.with_suffix(".safetensors").unlink()
            del self._kept[KEPT:]
        except OSError as error:  # a full disk must not cost what was measured
            self.problem = say(
                "culprit.no_reproducer",
                "No reproducer in {folder}: {error}.",
                folder=self._directory,
                error=error.strerror,
            )

    def _write(self, call: Call, row: OperatorRow) -> str:
        # The script's float64 is to take the form that the device declares, not another.
        call = declared(call, self._declared)
        name = f"{row.index:04}-{row.operator}-{row.module}"
        path = self._directory / (re.sub(r"[^A-Za-z0-9.]+", "-", name).replace(".", "_") + ".py")
        dtype = row.arithmetic.partition(" ")[0]  # under autocast that of this call
        source = _Source(getattr(torch, dtype))
        arguments = source.expression(call.args)
        kwargs = source.expression(call.kwargs)
        files.save_tensors(source.tensors, path.with_suffix(".safetensors"), {"format": "pt"})
        kind = "cuda" if self._device.kind == "cuda" else "npu"
        versions = environment.capture()
        script = _SCRIPT.substitute(
            operator=row.operator,
            device="the NPU" if kind == "npu" else "the GPU",
            module=row.module,
            index=row.index,
            name=self._device.name,
            emulated=f" ({EMULATED_MEANS})" * self._device.emulated,
            arithmetic=row.arithmetic,
            finding=f"{describe(row)}\n{row.method}" if row.method else describe(row),
            run=f"python -m harness emulate {path.name}; on a real NPU: python {path.name}"
            if self._device.emulated
            else f"python {path.name} [--device {kind}:0]",
            emulation=emulation.line(row.module, self._device.details.get("emulated_kernels"))
            if self._device.emulated
            else "",
            torch_device=f"{kind}:0",
            extension=", torch_npu" * (kind == "npu"),
            versions=", ".join(
                f"{package} {versions[package]}"
                for package in ("torch", "torch_npu")
                if package in versions
            ),
            rmse=_number(row.own_rmse),
            allowed=_number(RATIO_LIMIT * row.budget_rmse),
            limit=f"{RATIO_LIMIT:g}",
            runs=_RUNS,
            args=arguments,
            kwargs=kwargs,
            dtype=dtype,
            function=f"torch.ops.{call.func}",
            first_only="[:1]" if first_result_only(call.func) else "",
            kind=kind,
            setup="\n".join(f"        {line}" for line in self._setup(kind)),
        )
        path.write_text(script, encoding="utf-8")
        return path.name

    def _setup(self, kind: str) -> list[str]:
        lines = list(_SETUP[kind])
        for name, value in self._numerics.items():
            if value in ("True", "False"):
                lines.append(f"{_SETTING[kind].format(name)} = {value}")
        return lines or ["pass"]


class _Source:
    """Arguments of a call as Python source; its tensors are collected under names."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._dtype = dtype
        self._names: dict[int, str] = {}

    def expression(self, value: Any) -> str:
        """Python source that gives `value` from names `t`, `device`, `dtype` and torch."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, dict):
            inner = (f"{key!r}: {self.expression(item)}" for key, item in value.items())
            return f"{{{', '.join(inner)}}}"
        if isinstance(value, list):
            return f"[{', '.join(map(self.expression, value))}]"
        if isinstance(value, tuple):
            return f"({''.join(self.expression(item) + ', ' for item in value)})"
        if isinstance(value, torch.dtype):
            return "dtype" if value == torch.float32 else str(value)
        if isinstance(value, torch.device):
            return "device"
        if isinstance(value, float):
            return _number(value)
        return repr(value) if value is None or isinstance(value, (bool, int, str)) else str(value)

    def _tensor(self, tensor: torch.Tensor) -> str:
        if id(tensor) not in self._names:
            self._names[id(tensor)] = f"arg{len(self._names)}"
        name = self._names[id(tensor)]
        order = dense_order(tensor)
        # safetensors holds dense tensors only: another order of strides is made by a view.
        self.tensors[name] = stored(tensor, self._dtype).permute(order).contiguous().clone()
        back = [order.index(axis) for axis in range(tensor.dim())]
        view = "" if back == sorted(back) else f".permute({back})"
        return f"t[{json.dumps(name)}]{view}"


def _number(value: float) -> str:
    text = repr(float(value))
    return text if text[-1].isdigit() else f'float("{text}")'
