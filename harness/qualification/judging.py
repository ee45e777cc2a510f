"""Runs calls in a device's process and judges them, as the operator comparison judges a model's.

Every call runs twice on its inputs.  Between the runs the first result is overwritten with NaN and
given back, so that a device with a caching allocator computes the second one in that memory:
an element that a kernel leaves unwritten is then NaN.  Whether the memory was the same is seen by
its address, and only then is the check said to be made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.execution.operators.calls import Call, mapped, rerun, results
from harness.execution.operators.comparison import OperatorComparison
from harness.execution.operators.reproducer import Reproducers
from harness.judgement import arithmetic
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_rows import NO_KERNEL, CannMethod, OperatorRow, culprits
from harness.qualification import inputs, variants
from harness.qualification.cropping import crop
from harness.qualification.outcomes import Outcome, SetResult
from harness.qualification.placing import Placing, shares
from harness.qualification.signatures import Signature, parse
from harness.system.status import CaseProblem, Stage, Status, worst

if TYPE_CHECKING:
    from harness.devices.device import Device

_HALVES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}


class Judge:
    """Judges calls on a device of this process."""

    def __init__(
        self,
        device: Device,
        dtype: str,
        read: Mapping[str, str],
        *,
        largest: float,
        scripts: Path | None = None,
    ) -> None:
        """`scripts`: where a script for every set that fails is written, None for nowhere."""
        self._device = device
        self._scripts = scripts
        self._dtype = dtype
        self._read = read
        self._largest = largest
        self._comparisons: dict[str, OperatorComparison] = {}

    def outcome(
        self,
        name: str,
        text: str,
        known: Mapping[str, tuple[str, str]],
        *,
        variants_too: bool = False,
        given: Call | None = None,
    ) -> Outcome:
        """One call's; never raises for what the call does on the device.

        `given`: its arguments, in place of the sets.
        """
        cropped = ""
        try:
            whole = parse(text)
            smaller = crop(whole, self._largest) if given is None else None
            signature = whole if smaller is None else smaller.signature
            cropped = "" if smaller is None else smaller.what
            declared = self._of(signature)
            run = _Run(self._device, self._comparison(signature), signature, declared)
            if self._scripts is not None:
                info = self._device.describe()
                run.scripts = Reproducers(info, declared, self._read, self._scripts)
            return run.outcome(
                Outcome(name, text, Status.PASS, cropped=cropped),
                known,
                variants_too=variants_too,
                given=given,
            )
        except CaseProblem as problem:
            return Outcome(name, text, problem.status, problem.reason, cropped)
        except (ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return Outcome(name, text, Status.SKIP, f"cannot be made: {said}", cropped)

    def _of(self, signature: Signature) -> Arithmetic:
        """What the device declares for a call.  Raises ValueError for one of several formats."""
        floats = {layout.dtype for layout in signature.layouts() if layout.dtype.is_floating_point}
        named = {f"%{name}" for name in ("float32", *_HALVES.values())}
        asked = {value for value in signature.kwargs.values() if value in named}
        formats = {str(dtype).removeprefix("torch.") for dtype in floats}
        formats |= {value.removeprefix("%") for value in asked}
        if len(formats - {"float64"}) > 1:
            raise ValueError(f"converts between {' and '.join(sorted(formats))}")
        dtype = next(iter(formats), self._dtype)
        return arithmetic.declared("float32" if dtype == "float64" else dtype, self._read)

    def _comparison(self, signature: Signature) -> OperatorComparison:
        declared = self._of(signature)
        key = str(declared)
        if key not in self._comparisons:
            self._comparisons[key] = OperatorComparison(
                torch.nn.Module(), self._device, declared, independent=True
            )
        return self._comparisons[key]


class _Run:
    """One call: its runs on the device, and what they are judged to be."""

    def __init__(
        self,
        device: Device,
        comparison: OperatorComparison,
        signature: Signature,
        declared: Arithmetic,
    ) -> None:
        self._device = device
        self._comparison = comparison
        self._signature = signature
        self._placing = Placing(device, getattr(torch, declared.dtype))
        self.scripts: Reproducers | None = None
        self._checks: dict[str, None] = {}
        self._seconds = self._host = self._variants = 0.0

    def outcome(
        self,
        start: Outcome,
        known: Mapping[str, tuple[str, str]],
        *,
        variants_too: bool,
        given: Call | None,
    ) -> Outcome:
        """Run the sets and judge them."""
        began = time.perf_counter()
        sets: dict[str, SetResult] = {}
        names = list(inputs.SETS) if given is None else ["given"]
        for name in names:
            call = inputs.make(self._signature, name) if given is None else given
            row = self._comparison.describe(call, 0, "")
            if row.skipped:
                status = Status.FAIL_FALLBACK if row.skipped == NO_KERNEL else Status.SKIP
                return dataclasses.replace(start, status=status, reason=row.skipped)
            sets[name] = self._set(call, row, known.get(name), name)
            if name == "typical" and inputs.has_nonfinite(self._signature, call):
                names.append(inputs.NONFINITE)
            if variants_too and name == "typical" and sets[name].status is Status.PASS:
                timed = time.perf_counter()
                sets |= self._varied(call, row)
                self._variants += time.perf_counter() - timed
        status = worst(item.status for item in sets.values())
        reasons = [item.reason for item in sets.values() if item.status is status]
        taken = time.perf_counter() - began
        return dataclasses.replace(
            start,
            status=status,
            reason=next(iter(reasons), ""),
            sets=sets,
            checks=tuple(self._checks),
            device_seconds=round(self._seconds, 4),
            host_seconds=round(taken - self._seconds - self._variants, 4),
            variant_seconds=round(self._variants, 4),
        )

    def _set(
        self, call: Call, row: OperatorRow, known: tuple[str, str] | None, name: str
    ) -> SetResult:
        began = time.perf_counter()
        try:
            first, second = self._twice(call)
        except Exception as error:
            return self._raised(call, error)
        finally:
            self._seconds += time.perf_counter() - began
        self._checks |= dict.fromkeys((name, "two runs"))
        found = SetResult(Status.PASS, bits=bits(first), inputs=_checksum(call), judged=False)
        same = _equal(first, second)
        if known is not None and same and known == (found.bits, found.inputs):
            return found
        if name == inputs.NONFINITE:
            return dataclasses.replace(found, **self._nonfinite(call, row, first), judged=True)
        judged = self._comparison.judge(_single(call), row, [first] if same else [first, second])
        if self.scripts is not None:
            self.scripts.consider(call, dataclasses.replace(judged, module=f"{name} inputs"))
        return dataclasses.replace(found, **_verdict(judged), judged=True)

    def _twice(self, call: Call) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Results of both runs, on the host."""
        placed = self._placing.arguments(call)
        value = self._placing.run(call, placed)
        held = results(call, value)
        first = [tensor.cpu() for tensor in held]
        self._device.synchronize()
        if call.written() or shares(held, placed.values()):
            placed = self._placing.arguments(call)
        poisoned = self._placing.poison(held, value)
        del value, held
        value = self._placing.run(call, placed)
        held = results(call, value)
        second = [tensor.cpu() for tensor in held]
        self._device.synchronize()
        if poisoned and all(tensor.data_ptr() in poisoned for tensor in held if tensor.numel()):
            self._checks["NaN memory"] = None
        if self._placing.gaps(call):
            self._checks["gaps"] = None
        return first, second

    def _raised(self, call: Call, error: Exception) -> SetResult:
        """What an error on the device means, beside the CPU's answer to the same call."""
        said = " ".join(f"{type(error).__name__}: {error}".split("\n[ERROR]")[0].split())[:300]
        explained = self._device.explain(error)
        if explained is not None and explained.status is not Status.FAIL_UNSUPPORTED:
            raise CaseProblem(explained.status, Stage.FORWARD, explained.reason) from error
        try:
            rerun(call, call.func, lambda tensor: tensor, lambda dtype: dtype)
        except Exception:
            return SetResult(Status.SKIP, f"the CPU does not run it either: {said}", judged=False)
        reason = said if explained is None else explained.reason
        return SetResult(Status.FAIL_UNSUPPORTED, reason, judged=False)

    def _nonfinite(self, call: Call, row: OperatorRow, got: list[torch.Tensor]) -> dict[str, Any]:
        """Elements that are neither as the CPU's float32 has them nor as its float64.

        Both are asked since they differ: PyTorch's gelu of infinity is NaN in float32 alone.
        """
        single = _single(call)
        narrow, wide = (
            results(single, rerun(single, single.func, convert, lambda dtype: dtype))
            for convert in (_as_it_is, _widened)
        )
        wrong = 0
        for host, *answers in zip(got, narrow, wide, strict=True):
            if host.shape != answers[0].shape:
                return {"status": Status.FAIL_SHAPE, "reason": "another shape than the CPU's"}
            right = torch.zeros_like(host, dtype=torch.bool)
            for answer in answers:
                right |= _kinds(host) == _kinds(answer.to(host.dtype))
            wrong += int(right.logical_not().sum())
        if wrong:
            method = self._comparison.by_method(single, row, got)
            reason = f"{wrong} elements are NaN or infinite otherwise than on the CPU"
            return {"status": Status.FAIL_NAN, "reason": _with_method(reason, method)}
        return {"status": Status.PASS}

    def _varied(self, call: Call, row: OperatorRow) -> dict[str, SetResult]:
        """The call in other layouts and batches."""
        found = {}
        for name, other in variants.of(call):
            try:
                value = self._placing.run(other, self._placing.arguments(other, name == "strided"))
                got = [tensor.cpu() for tensor in results(other, value)]
                self._device.synchronize()
            except Exception as error:
                found[name] = self._raised(other, error)
                continue
            self._checks[name] = None
            judged = self._comparison.judge(_single(other), row, [got])
            found[name] = SetResult(**{"status": Status.PASS, **_verdict(judged)})
        return found


def _kinds(tensor: torch.Tensor) -> torch.Tensor:
    """0 for finite elements, else which of NaN and the infinities."""
    if not tensor.is_floating_point():
        return torch.zeros_like(tensor, dtype=torch.uint8)
    kinds = torch.isnan, torch.isposinf, torch.isneginf
    found = [number * kind(tensor).to(torch.uint8) for number, kind in enumerate(kinds, start=1)]
    return found[0] + found[1] + found[2]


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _verdict(row: OperatorRow) -> dict[str, Any]:
    if row.skipped:
        return {"status": Status.SKIP, "reason": row.skipped}
    numbers = {
        "ratio": float(f"{row.ratio:.4g}"),
        "slice_ratio": float(f"{row.worst_slice_ratio:.4g}"),
        "where": row.worst_slice,
    }
    if not culprits([row]):
        return {"status": Status.PASS, **numbers}
    if row.own_rmse == float("inf") and not row.nonfinite:
        return {"status": Status.FAIL_SHAPE, "reason": "another shape than the CPU's", **numbers}
    if row.nonfinite:
        reason = f"{row.nonfinite} elements are NaN or infinite where the CPU's are finite"
        reason = _with_method(reason, row.method)
        return {"status": Status.FAIL_NAN, "reason": reason, **numbers}
    if row.unstable:
        reason = f"{row.unstable} elements differ between two runs on the same inputs"
        return {"status": Status.FLAKY, "reason": reason, **numbers}
    reason = f"{row.ratio:.3g} times its budget, {row.worst_slice_ratio:.3g} in {row.worst_slice}"
    reason = _with_method(reason, row.method)
    return {"status": Status.FAIL_ACCURACY, "reason": reason, **numbers}


def _with_method(reason: str, method: CannMethod | None) -> str:
    return f"{reason}. {str(method).removesuffix('.')}" if method is not None else reason


def _single(call: Call) -> Call:
    """As references take it: dtypes named in its arguments as float32 where they are shorter."""

    def leaf(value: Any) -> Any:
        return torch.float32 if isinstance(value, torch.dtype) and value in _HALVES else value

    return Call(call.func, mapped(leaf, call.args), mapped(leaf, call.kwargs))


def bits(tensors: list[torch.Tensor]) -> str:
    """Hash of tensors on the host: dtypes, shapes and every bit."""
    digest = hashlib.sha256()  # which processors have instructions for
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _equal(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    """Whether every bit is the same."""
    pairs = zip(ones, others, strict=True)
    return all(
        one.shape == other.shape and torch.equal(_whole(one), _whole(other)) for one, other in pairs
    )


def _checksum(call: Call) -> str:
    """Of the arguments: enough to tell that a host made others, and four times as fast as a CRC."""
    value = 0
    for tensor in call.tensors():
        data = np.frombuffer(_bytes(tensor), np.uint8)
        whole = data.size // 8 * 8
        total = int(np.add.reduce(data[:whole].view(np.uint64), initial=np.uint64(0)))
        value = zlib.crc32(f"{value} {total} {data[whole:].tobytes().hex()}".encode())
    return f"{value:08x}"


_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """The bits of each element as a whole number."""
    return tensor.detach().contiguous().view(_WHOLE[tensor.element_size()])


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
