"""Makes a leg of a module, or function, and inputs of the user's own.

Before anything is compared the module runs on the CPU as the device's process will load it: what
cannot serve as a reference is refused in a sentence.  Whether the first dimension is that of a
batch is not asked but measured: rows that give alone what they give together, in float64, are
samples of their own; else the whole call is one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.cases.samples import Arguments, Samples, stacked
from harness.execution import own_files, own_module
from harness.execution.legs import LegRequest
from harness.execution.operators.calls import Call, bound, qualified_name
from harness.execution.outputs import flatten
from harness.execution.own_files import Function
from harness.system import files
from harness.system.status import CaseProblem, UsageProblem

Outputs = dict[str, torch.Tensor]

# Rows alone and together may differ by float64's rounding in other orders, far below float32's.
_SAME_ROWS = 2.0**-30
# With more samples each is not run alone as well: so many passes show nothing new.
_MOST_ALONE = 64


def prepare(
    module: Any, inputs: Any, folder: Path, *, name: str, dtype: str, numerics: str, repeat: int
) -> LegRequest:
    """Write module and inputs to a folder and say how they run.

    `module`: a torch.nn.Module or a function of tensors.  `inputs`: a tensor, a tuple of positional
    or a mapping of named arguments, or `Arguments`, for one call; a list of these for several.
    Raises UsageProblem for what cannot be judged: it has random numbers in it, changes its inputs,
    gives no tensor, or cannot be sent to another process.
    """
    own = module if isinstance(module, nn.Module) else _function(module)
    _check_tensors(own_module.weights(own), name)
    samples = _samples(inputs)
    saved = own_files.save_module(own, name, folder)
    try:
        loaded = saved.load()
    except CaseProblem as problem:
        raise UsageProblem(problem.reason) from problem
    given = {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in own_module.weights(own).items()
    }
    if files.sha256_tensors(given) != loaded.weights_sha256:
        raise UsageProblem(f"{name} has other weights once it is unpickled: both sides would too.")
    _check_twice(loaded.model, _single(samples), name)
    if not samples.apart:
        samples = _batch(loaded.model, samples) or _whole(samples)
    count = len(samples)
    return LegRequest(
        model=saved,
        inputs=own_files.save_inputs(samples, folder),
        dtype=dtype,
        batch_size=1 if samples.apart else count,
        numerics=numerics,
        repeat=repeat,
        batch_checks=not samples.apart and count <= _MOST_ALONE,
    )


def _function(given: Any) -> Function:
    if not callable(given):
        raise UsageProblem(
            f"A {type(given).__name__} cannot be judged: give a torch.nn.Module or a function of "
            "tensors."
        )
    return Function(given)


def _check_tensors(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
            kind = "complex" if tensor.is_complex() else "sparse or quantised"
            raise UsageProblem(
                f"{what} has {name} as a {kind} tensor: only dense real ones can be judged."
            )


def _samples(inputs: Any) -> Samples:
    """The calls that were given, of one form, on the CPU; a single one is a batch until measured.

    Raises UsageProblem.
    """
    several = type(inputs) is list
    calls = [Arguments.of(one) for one in (inputs if several else [inputs])]
    if not calls or not all(call.tensors() for call in calls):
        raise UsageProblem(
            "There is no tensor among the inputs: give a tensor, a tuple of arguments, a dict of "
            "named arguments, or a list of such calls."
        )
    for call in calls:
        _check_tensors(call.tensors(), "The inputs have")
    joined = stacked(calls)
    if joined is None:
        raise UsageProblem(
            "The calls of `inputs` differ in more than the numbers of their tensors (shapes, "
            "dtypes or other arguments): judge each kind by itself."
        )
    joined = joined.mapped(
        lambda tensor: (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu()
    )
    if several:
        return joined
    tensors = {name: tensor[0] for name, tensor in joined.tensors.items()}
    return Samples(tensors, joined.args, joined.kwargs)


def _whole(samples: Samples) -> Samples:
    """One call as the only sample."""
    tensors = {name: tensor[None] for name, tensor in samples.tensors.items()}
    return Samples(tensors, samples.args, samples.kwargs, apart=True)


def _single(samples: Samples) -> Samples:
    """The first call of several, or the only one, with its tensors as they go in."""
    own = samples.rows(slice(1)) if samples.apart else samples
    return own.mapped(torch.clone)


def _run(module: nn.Module, samples: Samples) -> Outputs:
    with torch.no_grad():
        return dict(flatten(samples.call(module), rows=False))


def _check_twice(module: nn.Module, samples: Samples, name: str) -> None:
    """Run it twice.  Raises UsageProblem for what cannot be a reference."""
    before = {key: tensor._version for key, tensor in samples.tensors.items()}
    random = _Random()
    try:
        with random:
            first = _run(module, samples)
    except CaseProblem as problem:
        raise UsageProblem(problem.reason) from problem
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageProblem(f"{name} does not run on the CPU with these inputs: {said}") from error
    after = {key: tensor._version for key, tensor in samples.tensors.items()}
    if changed := [key for key in before if before[key] != after[key]]:
        raise UsageProblem(
            f"{name} changes its input {changed[0]} in place, so that a second run would see "
            "another one: have it work on a copy (.clone())."
        )
    if not first:
        raise UsageProblem(f"{name} gives no tensor: there is nothing to compare.")
    if random.operator:
        raise UsageProblem(
            f"{name} draws random numbers ({random.operator}), which differ from device to device: "
            "make them an input, or turn them off."
        )
    kept = {key: tensor.clone() for key, tensor in first.items()}
    second = _run(module, samples)
    if kept.keys() != second.keys() or any(
        not torch.equal(tensor.nan_to_num(), second[key].nan_to_num())
        for key, tensor in kept.items()
    ):
        raise UsageProblem(
            f"{name} gives other results when it runs again on the CPU (it keeps a state, or does "
            "not compute the same twice): it cannot serve as a reference."
        )


class _Random(TorchDispatchMode):
    """Notes the first operator that draws random numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.operator and torch.Tag.nondeterministic_seeded in func.tags:
            given = bound(Call(func, args, kwargs or {}))
            # Dropout that is turned off, as inside attention, draws none.
            off = given.get("dropout_p") == 0 or False in map(given.get, ("train", "training"))
            self.operator = "" if off else qualified_name(func)
        return func(*args, **(kwargs or {}))


def _batch(module: nn.Module, samples: Samples) -> Samples | None:
    """The call as a batch of samples, where that is what it is; `module` becomes float64."""
    sizes = {tensor.shape[0] if tensor.dim() else 0 for tensor in samples.tensors.values()}
    count = sizes.pop()
    if sizes or count < 2:
        return None
    wide = samples.mapped(lambda t: t.double() if t.is_floating_point() else t.clone())
    with contextlib.suppress(Exception):  # there is no float64 path, or none for a row alone
        module = module.double()
        together = _run(module, wide)
        if any(tensor.dim() == 0 or len(tensor) != count for tensor in together.values()):
            return None
        for row in (0, count - 1):
            alone = _run(module, wide.rows([row]))
            if alone.keys() != together.keys() or not all(
                _same(alone[name][0], tensor[row]) for name, tensor in together.items()
            ):
                return None
        return samples
    return None


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    error, size = (one - other).abs(), other.abs().max() if other.numel() else 0
    return bool((error <= _SAME_ROWS * size).all())
