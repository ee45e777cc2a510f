"""What to look at on the first card, each question a request to the device's process.

The expectations come from public sources alone; none was measured on an NPU.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.execution import legs
from harness.execution.probes import composites, functions, rounding, summation
from harness.judgement.arithmetic import FULL_BITS, Factors
from harness.records.first_card import CardProbe
from harness.system.status import Stage, StageCallback

if TYPE_CHECKING:
    from harness.devices.device import Device

_nn = torch.nn.functional
_K = 4608  # 512 channels of a 3x3 kernel
_STEP = 64
_OFF_CENTRE = (0.0, 1.0, 5.0, 10.0, 30.0, 100.0)  # mean of a group over its deviation
Seen = tuple[str, dict[str, list[float]]]


@dataclasses.dataclass(frozen=True)
class Question:
    """What is expected of a card, by which source, and how it is looked at."""

    expected: str
    source: str
    ask: Callable[[Device], Seen]


@dataclasses.dataclass(frozen=True)
class CardRequest:
    """One of `QUESTIONS`."""

    name: str

    def answer(self, device: Device, on_stage: StageCallback) -> CardProbe:
        """Ask it in strict numerics.  Raises CaseProblem where it does not run."""
        question = QUESTIONS[self.name]
        device.apply_numerics("strict")
        on_stage(Stage.FORWARD)
        try:
            seen, numbers = question.ask(device)
            device.synchronize()
        except Exception as error:
            raise legs.problem(device, error, Stage.FORWARD) from error
        return unanswered(self.name).model_copy(update={"seen": seen, "numbers": numbers})


def unanswered(name: str, problem: str = "") -> CardProbe:
    """A question without its answer."""
    question = QUESTIONS[name]
    return CardProbe(name=name, expected=question.expected, source=question.source, problem=problem)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _error(got: Tensor, exact: Tensor) -> float:
    """Root mean square error over that of the exact result."""
    return float((got.cpu().double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def _strict_convolution(device: Device) -> Seen:
    image, weight = _random(2, 64, 28, 28), _random(64, 64, 3, 3, seed=1)
    place = device.torch_device
    got = _nn.conv2d(image.to(place), weight.to(place), padding=1)
    exact = _nn.conv2d(image.double(), weight.double(), padding=1)
    found = [_error(got, exact), _error(_nn.conv2d(image, weight, padding=1), exact)]
    return f"error {found[0]:.2g}, the CPU's float32 {found[1]:.2g}", {"error, CPU's": found}


def _long_product(device: Device) -> Seen:
    """Positive factors: an accumulator that truncates leaves them all too small."""
    left, right = _random(64, _K).abs(), _random(_K, 64, seed=1).abs()
    place = device.torch_device
    got = torch.mm(left.to(place), right.to(place)).cpu().double()
    exact = left.double() @ right.double()
    relative = (got - exact) / exact * 2**24
    rms, mean = float(relative.square().mean().sqrt()), float(relative.mean())
    # As `probes/order` does, of the first term and every 64th.
    others = list(range(_STEP, _K, _STEP))
    rows = torch.ones(len(others), _K)
    rows[:, 0] = 2.0**38
    rows[range(len(others)), others] = -(2.0**38)
    counts = torch.mm(rows.to(place), torch.ones(_K, 64).to(place)).cpu()[:, 0]
    meets = [_K - float(count) for count in counts]
    steps = len(set(meets))
    return (
        f"error {rms:.2g}, mean {mean:+.2g} units of 2^-24; the first term meets every "
        f"{_STEP}th in {steps} steps of {len(others)}",
        {"error, mean": [rms, mean], "terms below the node of the first and every 64th": meets},
    )


def _group_norm_off_centre(device: Device) -> Seen:
    ratios = []
    for offset in _OFF_CENTRE:
        x = _random(4, 64, 28, 28) + offset
        got = _nn.group_norm(x.to(device.torch_device), 1)
        exact = _nn.group_norm(x.double(), 1)
        ratios.append(_error(got, exact) / _error(_nn.group_norm(x, 1), exact))
    shown = ", ".join(
        f"{ratio:.3g} at {off:g}" for ratio, off in zip(ratios, _OFF_CENTRE, strict=True)
    )
    return f"error over the CPU's: {shown}", {"mean / deviation": [*_OFF_CENTRE], "ratio": ratios}


def _group_norm_constant(device: Device) -> Seen:
    constants = torch.linspace(0.5, 300, 600)
    x = constants[:, None, None, None].expand(-1, 8, 14, 14).contiguous()
    got = _nn.group_norm(x.to(device.torch_device), 1).cpu().flatten(1)
    bad = int(torch.isnan(got).any(1).sum())
    large = float(got.nan_to_num().abs().max())
    return f"NaN for {bad} of 600, else at most {large:.2g}", {"NaN, greatest": [bad, large]}


def _max_pool(device: Device) -> Seen:
    image = torch.tensor([[math.nan, 1.0], [2.0, 3.0]])
    images = torch.stack([image, image.flip(1), torch.full((2, 2), -math.inf)])[:, None]
    got = _nn.max_pool2d(images.to(device.torch_device), 2).cpu().flatten().tolist()
    return f"{got[0]:g}, {got[1]:g}; of minus infinity {got[2]:g}", {"results": got}


def _layer_norm(device: Device) -> Seen:
    found = {}
    for length in (1024, 768):
        place = _placed(device, torch.bfloat16)
        kept = composites.statistics(place, torch.bfloat16, length)
        x = _random(64, length).bfloat16()
        one = torch.ones(length).bfloat16()
        got = _nn.layer_norm(x.to(device.torch_device), [length], place(one), place(0 * one))
        exact = _nn.layer_norm(x.double(), [length])
        own = _error(_nn.layer_norm(x, [length], one, 0 * one), exact)
        found[length] = (kept, _error(got, exact) / own)
    return (
        ", ".join(f"{length}: {kept}, error {ratio:.3g} of the CPU's"
                  for length, (kept, ratio) in found.items()),
        {"length": [float(length) for length in found], "ratio": [r for _, r in found.values()]},
    )  # fmt: skip


def _hf32_ties(device: Device) -> Seen:
    """Of convolutions as they come by default, of products where HF32 is allowed for them."""
    device.apply_numerics("default")
    npu = getattr(torch, "npu", None)
    if npu is not None:
        npu.matmul.allow_hf32 = True
    said = []
    for one in summation.of_device(device.torch_device, torch.float32):
        if one.is_product:
            forms = dict.fromkeys(
                "not shortened" if form == Factors(FULL_BITS) else str(form)
                for form in rounding.of_factors(one)
            )
            said.append(f"{one.name}: {' and '.join(forms)}")
    return "; ".join(said), {}


def _gelu(device: Device) -> Seen:
    said, numbers = [], {}
    for name in ("gelu", "gelu tanh"):
        seen = functions.traits(name, device.torch_device, torch.float32)
        asked = {"gelu": "none"}.get(name, "tanh")
        said.append(f"approximate={asked}: {seen.form}")
        numbers[f"{asked}: of what is allowed"] = [seen.of_allowed]
    return ", ".join(said), numbers


def _placed(device: Device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda values: values.to(dtype).to(device.torch_device)


QUESTIONS: Mapping[str, Question] = {
    "strict convolution": Question(
        "float32, error below 1e-6 (HF32: about 2e-4), or refused",
        "aclnnConvolution: cubeMathType 0 with float32 is not supported at present on A2 and A3; "
        "its host code has no such check",
        _strict_convolution,
    ),
    f"float32 product of {_K} terms": Question(
        "added up in float32; truncated sums would have a negative mean; groups beyond 2048 terms "
        "with cubeMathType 4 alone",
        "Ascend C, Mmad, tables 7 and 8; aclnnMatmul, cubeMathType",
        _long_product,
    ),
    "GroupNorm off-centre": Question(
        "one pass: several times the CPU's error where the mean is 5 deviations, tens to hundreds "
        "where it is 30",
        "CANN ops-nn, norm/group_norm_silu: variance as mean square minus square of the mean",
        _group_norm_off_centre,
    ),
    "GroupNorm of constants": Question(
        "NaN for some, where the variance comes out below -eps",
        "CANN ops-nn, norm/group_norm_silu",
        _group_norm_constant,
    ),
    "MaxPool with NaN": Question(
        "NaN may be passed over, where PyTorch propagates it",
        "aclnnMaxPool2dWithMask, constraints: NaN and -Inf are not supported",
        _max_pool,
    ),
    "LayerNorm of 1024 and 768 in bfloat16": Question(
        "1024: statistics in float32; 768: in bfloat16",
        "CANN ops-nn, norm/layer_norm_v4: which lengths take it; LayerNormV3 otherwise",
        _layer_norm,
    ),
    "ties of HF32": Question(
        "11 bits; products: ties away from zero",
        "CANN ops-nn, matmul/mat_mul_v3 asks for rounding mode 1; Ascend C, SetHF32Mode",
        _hf32_ties,
    ),
    "form of gelu": Question(
        "tanh for both on A2 and A3; as asked on the Ascend 950",
        "torch_npu, at npu_gelu; op-plugin, GeluOutKernelNpuOpApi",
        _gelu,
    ),
}
