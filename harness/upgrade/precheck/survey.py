"""Which timm architectures run on the emulator, and with which operators.

``python -m harness.upgrade.precheck.survey`` runs every architecture of coverage.json on the CPU
and on the emulated NPU and rewrites the file; with names it runs (and adds) only those.  A test
keeps the file true.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from harness.devices.emulator.errors import EmulatorError
from harness.devices.emulator.loader import Emulator, EmulatorOptions, load
from harness.execution import gelu, imitation
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.budget import EXACT_LIMIT
from harness.system import environment, torchvision_shim
from harness.upgrade.precheck import coverage

BATCH = 2
# Statistics of two images alone make a network so sensitive that a reduced format drowns it.
_CALIBRATION_IMAGES = 8
SEED = 7
# A reduced format may cost this many times what rounding only the weights and the input to it
# costs the same model: a run in the format also rounds each layer's output, three to five times a
# layer (convolution, normalisation, activation, addition) where the weights are rounded once.
FORMAT_FACTOR = 8.0
# Below this the format's own noise is not the question; above it, agreement says nothing, and a
# model that is so sensitive to the format is not listed with it.
FORMAT_FLOOR = 1e-3
FORMAT_CEILING = {torch.float16: 0.25, torch.bfloat16: 1.0}

# Small inputs keep the survey short.  Architectures made for one size get that size.
_SMALL_INPUT = 64
_OTHER_INPUT = {
    "inception_v3": 96,
    "inception_v4": 96,
    "mobilevit_xxs": 128,
    "mobilevitv2_050": 128,
}


@dataclass(frozen=True)
class Surveyed:
    """One architecture on both sides.

    Attributes:
        architecture: timm's name.
        dtype: dtype of model and input on the emulated NPU; the CPU side is always fp32.
        input_size: Channels, height, width.
        finite: All logits of the emulated NPU are finite.
        error: Largest absolute difference of a logit over `spread`: in fp32 from a CPU run in
            fp64, in a reduced format from one in fp32.
        budget: For a reduced format the same number for a CPU run in fp32 whose weights and input
            are rounded to `dtype`, for fp32 that of the CPU's own fp32.
        spread: Standard deviation of the CPU's logits after each class's mean over the images is
            taken off: what tells images apart.
        operators: Operators that the forward pass executed, and how often.
    """

    architecture: str
    dtype: torch.dtype
    input_size: tuple[int, int, int]
    finite: bool
    error: float
    budget: float
    spread: float
    operators: dict[str, int]

    @property
    def limit(self) -> float:
        """What `error` may be."""
        if self.dtype == torch.float32:
            return EXACT_LIMIT * self.budget  # as a case in strict is judged
        return min(max(FORMAT_FACTOR * self.budget, FORMAT_FLOOR), FORMAT_CEILING[self.dtype])

    @property
    def agrees(self) -> bool:
        """Finite, discriminating and within the limit."""
        return self.finite and self.spread > 0 and self.error <= self.limit


def draw_constant_parameters(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Gives parameters that start constant (gains 1, biases 0, layer scales 1e-6) other values.

    With plain initialisation a skipped normalisation, bias or residual branch changes nothing.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() == 0 or not bool((parameter == parameter.flatten()[0]).all()):
                continue
            shape = parameter.shape
            if float(parameter.flatten()[0]) == 0:
                parameter.copy_(torch.randn(shape, generator=generator) * 0.1)
            else:
                parameter.copy_(torch.rand(shape, generator=generator) + 0.5)


def build(architecture: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """A model in fp32 on the CPU with discriminating weights, and its input of `BATCH` images."""
    torchvision_shim.ensure()
    timm: Any = importlib.import_module("timm")
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    model: torch.nn.Module = timm.create_model(architecture)
    config = timm.get_pretrained_cfg(architecture)
    channels, height, width = config.input_size
    if not config.fixed_input_size and config.min_input_size is None:
        height = width = _OTHER_INPUT.get(architecture, min(height, _SMALL_INPUT))
    draw_constant_parameters(model, generator)
    # Coarse patterns, brightness and contrast tell images apart where white noise averages out.
    count = _CALIBRATION_IMAGES
    coarse = torch.randn(count, channels, 4, 4, generator=generator) * 2
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    images = images + torch.randn(count, channels, height, width, generator=generator) * 0.5
    images[1::2] = images[1::2] * 2 + 2
    images[::2] -= 2
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if norms:  # running statistics from the images themselves
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None
            # One value a channel has no deviation; such a layer keeps its statistics.
            norm.register_forward_pre_hook(_skip_single_values)
        model.eval()
        for norm in norms:
            norm.train()
        with torch.no_grad():
            model(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    model.eval()
    images = images[:BATCH]
    centre_classifier(model, images)
    return model, images


def move(model: torch.nn.Module, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """`model.to`, also for tensors in plain attributes of a module (timm 1.0.27: convit)."""
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                setattr(
                    module, name, value.to(device, dtype if value.is_floating_point() else None)
                )
    return model.to(device, dtype)


def centre_classifier(model: Any, images: torch.Tensor) -> None:
    """Centres the logits over the images and scales them to a deviation of 3.

    Otherwise a bias common to all images can be so much larger than what tells them apart that
    fp32 itself does not resolve the difference.  Models with several classifiers are left alone.
    """
    classifier = model.get_classifier()
    if not isinstance(classifier, torch.nn.Linear):
        return
    features: list[torch.Tensor] = []
    hook = classifier.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    with torch.no_grad():
        model(images)
        hook.remove()
        if len(features) != 1 or features[0].dim() != 2:
            return
        centred = features[0] - features[0].mean(0)
        deviation = (centred @ classifier.weight.T).std()
        classifier.weight.mul_(3 / deviation)
        if classifier.bias is not None:
            classifier.bias.copy_(-(classifier.weight @ features[0].mean(0)))


def _skip_single_values(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    values = inputs[0]
    if module.training and values.numel() == values.shape[1]:
        module.eval()


def _logits(output: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    value = output[0] if isinstance(output, (tuple, list)) else output
    return torch.as_tensor(value).detach().cpu().to(dtype)


def compare(npu: Emulator, architecture: str, *dtypes: torch.dtype) -> list[Surveyed]:
    """Runs an architecture on the CPU and on the emulated NPU, once a dtype (fp32 if none given).

    HF32 is off for the run, and as it was afterwards.
    """
    model, images = build(architecture)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    # The form of GELU that the NPU takes is none of the emulator's errors.
    form = Arithmetic(gelu=gelu.instead(torch.device("npu"), set(gelu.FORMS)) or "")
    with torch.no_grad(), imitation.Imitation(form):
        expected = _logits(model(images))
    spread = float((expected - expected.mean(0)).std())

    def distance(logits: torch.Tensor, right: torch.Tensor) -> float:
        return float((logits - right).abs().max()) / spread

    accelerator: Any = torch.npu  # type: ignore[attr-defined]
    before = accelerator.conv.allow_hf32, accelerator.matmul.allow_hf32
    accelerator.conv.allow_hf32 = accelerator.matmul.allow_hf32 = False
    results = []
    try:
        for dtype in dtypes or (torch.float32,):
            candidate = move(model, "npu", dtype)
            device_images = images.to("npu", dtype)
            accelerator.synchronize()
            npu.reset_counters()
            with torch.no_grad():
                output = candidate(device_images)
            accelerator.synchronize()
            operators = npu.operator_counts()
            actual = _logits(output)
            move(model, "cpu", torch.float32).load_state_dict(state)
            if dtype == torch.float32:
                exact = _double_run(model, images, form)
                error, budget = distance(actual, exact), distance(expected, exact)
                model.to(torch.float32)
            else:
                rounded = _rounded_run(model, images, dtype, form)
                error, budget = distance(actual, expected), distance(rounded, expected)
            model.load_state_dict(state)
            results.append(
                Surveyed(
                    architecture=architecture,
                    dtype=dtype,
                    input_size=tuple(images.shape[1:]),  # type: ignore[arg-type]
                    finite=bool(actual.isfinite().all()),
                    error=error,
                    budget=budget,
                    spread=spread,
                    operators=operators,
                )
            )
    finally:
        accelerator.conv.allow_hf32, accelerator.matmul.allow_hf32 = before
    return results


def _rounded_run(
    model: torch.nn.Module, images: torch.Tensor, dtype: torch.dtype, form: Arithmetic
) -> torch.Tensor:
    """Logits in fp32 with weights, buffers and input rounded to `dtype`."""
    model.to(dtype).to(torch.float32)
    with torch.no_grad(), imitation.Imitation(form):
        return _logits(model(images.to(dtype).to(torch.float32)))


def _double_run(model: torch.nn.Module, images: torch.Tensor, form: Arithmetic) -> torch.Tensor:
    with torch.no_grad(), imitation.Imitation(form):
        return _logits(model.double()(images.double()), torch.float64)


def dtype_name(dtype: torch.dtype) -> str:
    """ "float16" for torch.float16."""
    return str(dtype).removeprefix("torch.")


def main(arguments: list[str] | None = None) -> int:
    """Runs architectures and rewrites their entries; 1 if one of them does not agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="architectures; all of coverage.json if none")
    parser.add_argument("--half", action="store_true", help="also try fp16 and bf16")
    parser.add_argument("--dry", action="store_true", help="leave coverage.json alone")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TASK_QUEUE_ENABLE", "0")
    warnings.simplefilter("ignore")
    try:
        npu = load(EmulatorOptions())
        npu.import_torch_npu()
    except EmulatorError as error:
        print(error, file=sys.stderr)
        return 1
    table = coverage.architectures()
    failed = 0
    for name in options.names or list(table):
        known = table.get(name, {}).get("dtypes", [])
        half = options.half or "float16" in known
        dtypes = [torch.float32] + ([torch.float16, torch.bfloat16] if half else [])
        try:
            results = compare(npu, name, *dtypes)
        except Exception as error:  # a survey goes on with the next one
            print(f"FAIL {name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            failed += 1
            continue
        for result in results:
            word = "ok  " if result.agrees else "FAIL"
            print(
                f"{word} {name} {dtype_name(result.dtype)} error {result.error:.1e} "
                f"limit {result.limit:.1e} spread {result.spread:.1e}",
                flush=True,
            )
        agreeing = [dtype_name(result.dtype) for result in results if result.agrees]
        failed += not {"float32", *known} <= set(agreeing)
        if "float32" in agreeing:
            table[name] = {
                "input_size": list(results[0].input_size),
                "dtypes": agreeing,
                "operators": results[0].operators,
            }
    if not options.dry:
        coverage.write(table, environment.version("timm"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
