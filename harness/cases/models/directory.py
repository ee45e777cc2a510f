"""Reads a timm model directory from disk: config.json and the weights file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system import foreign
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

if TYPE_CHECKING:
    import torch

PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.pth", "model.pth")
_PICKLE_SUFFIXES = (".bin", ".pth", ".pt")
_LFS_PREFIX = b"version https://git-lfs"
# "timm/resnet50.a1_in1k", with the prefixes and addresses that timm and browsers put before it.
_HUB_NAME = re.compile(
    r"(?:hf[-_]hub:|https?:/+(?:huggingface\.co|hf\.co|(?:www\.)?modelscope\.cn)/+"
    r"(?:models/)?)?(?P<name>\w[\w.-]*/\w[\w.-]*)/?"
)
_WANTED = "a timm model directory holds config.json and model.safetensors"

# File name (glob) -> whose format it is.
_FOREIGN_FILES = {
    "saved_model.pb": "a TensorFlow SavedModel",
    "*.onnx": "an ONNX model",
    "*.om": "an Ascend offline model",
    "*.mindir": "a MindSpore model",
    "*.ckpt": "a MindSpore or TensorFlow checkpoint",
    "*.pdmodel": "a PaddlePaddle model",
    "*.pdparams": "a PaddlePaddle model",
    "*.tflite": "a TensorFlow Lite model",
    "*.keras": "a Keras model",
    "*.h5": "a Keras model",
    "model_index.json": "a diffusers pipeline",
    "open_clip_config.json": "an OpenCLIP model",
    "flax_model.msgpack": "a Flax model",
}


def fail(reason: str) -> CaseProblem:
    """Return a CaseProblem (fail_load, stage load) to be raised."""
    return CaseProblem(Status.FAIL_LOAD, Stage.LOAD, reason)


def is_hub_name(text: str) -> bool:
    """Whether a text reads like a name or an address on a model hub."""
    return _HUB_NAME.fullmatch(text) is not None


def check_there(directory: Path) -> None:
    """Raise UsageProblem unless it is a directory; what is in it is said by `read_config`."""
    if directory.is_dir():
        return
    if directory.exists():
        raise UsageProblem(f"{directory} is a file, not a model directory: {_WANTED}.")
    text = str(directory)
    if match := _HUB_NAME.fullmatch(text):
        name = match["name"]
        raise UsageProblem(
            f"{text} is no directory here, and nothing is downloaded: where it is a name on a "
            f"model hub, fetch its files (`hf download {name} --local-dir DIR`, or `modelscope "
            f"download --model {name} --local_dir DIR`) and give DIR."
        )
    raise UsageProblem(
        f"Model directory {directory} does not exist: check the path (nothing is downloaded); "
        f"{_WANTED}."
    )


def _foreign(directory: Path) -> str | None:
    for pattern, owner in _FOREIGN_FILES.items():
        for path in sorted(directory.glob(pattern)):
            return f"{owner} ({path.name})"
    return None


def read_config(directory: Path) -> dict[str, Any]:
    """Return config.json of a timm model directory; `architecture` is there and is a string.

    Raises CaseProblem (fail_load) when the directory or config.json is missing, is not readable
    JSON, or belongs to another framework.
    """
    if not directory.exists():
        raise fail(f"Model directory {directory} does not exist: check the path; {_WANTED}.")
    if not directory.is_dir():
        raise fail(f"{directory} is a file, not a model directory: {_WANTED}.")
    path = directory / "config.json"
    if not path.is_file():
        other = _foreign(directory)
        if other:
            raise fail(f"{directory} holds {other}, which this harness does not load: {_WANTED}.")
        raise fail(f"{directory} has no config.json: {_WANTED}.")
    try:
        config = foreign.loads(foreign.read_text(path))
    except OSError as error:
        raise fail(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise fail(f"{path} is not JSON ({error}): restore it from the model's source.") from None
    if not isinstance(config, dict):
        raise fail(
            f"{path} holds a JSON {type(config).__name__}, not an object with the key "
            "`architecture`: restore it from the model's source."
        )
    architecture = config.get("architecture")
    if isinstance(architecture, str) and architecture:
        return config
    if architecture is not None:
        raise fail(
            f"`architecture` in {path} is {architecture!r}, not a name: give a timm "
            'architecture, e.g. "architecture": "efficientnet_b0".'
        )
    if "model_type" in config or "architectures" in config:
        what = config.get("model_type") or config["architectures"]
        raise fail(
            f"{path} is a Hugging Face transformers config ({what}), not a timm one: use the "
            "timm repository of the model, whose config.json has the key `architecture`."
        )
    if "_class_name" in config:
        raise fail(
            f"{path} is a diffusers config ({config['_class_name']}), not a timm one: {_WANTED}."
        )
    other = _foreign(directory)
    raise fail(
        f"{path} has no key `architecture`"
        + (f" and {directory} holds {other}" if other else "")
        + ': add the timm name, e.g. "architecture": "efficientnet_b0".'
    )


def find_weights(directory: Path, *, allow_pickle: bool) -> Path:
    """Return the weights file: model.safetensors, else the only *.safetensors, else a pickle.

    Raises CaseProblem when there is none, when the choice is not clear, or when there are only
    pickle files and `allow_pickle` is False.
    """
    preferred = directory / "model.safetensors"
    if preferred.is_file():
        return preferred
    if list(directory.glob("*.safetensors.index.json")):
        raise fail(
            f"{directory} holds weights split over several safetensors files, which this "
            "harness does not load: merge them into one model.safetensors."
        )
    safe = sorted(directory.glob("*.safetensors"))
    if len(safe) == 1:
        return safe[0]
    if safe:
        raise fail(
            f"{directory} holds {len(safe)} safetensors files ({_names(safe)}) and none is "
            "named model.safetensors: rename the one to test."
        )
    named = [directory / name for name in PICKLES if (directory / name).is_file()]
    others = sorted(p for s in _PICKLE_SUFFIXES for p in directory.glob(f"*{s}"))
    pickles = named[:1] or others
    if not pickles:
        other = _foreign(directory)
        raise fail(
            f"{directory} has config.json but no weights file"
            + (f"; it holds {other}" if other else "")
            + ": add model.safetensors."
        )
    if len(pickles) > 1:
        raise fail(
            f"{directory} holds {len(pickles)} weights files ({_names(pickles)}): keep the one "
            "to test, or convert it to model.safetensors."
        )
    if not allow_pickle:
        raise fail(
            f"{directory} has its weights only as pickle ({pickles[0].name}), which can run "
            "code: convert it to model.safetensors, or allow pickle for this model "
            "(it is then read with weights_only=True)."
        )
    return pickles[0]


def _names(paths: list[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:3])
    return shown + (", ..." if len(paths) > 3 else "")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict in a weights file, on the CPU, as stored (no dtype change).

    timm's own reader is used: it unwraps checkpoints (`state_dict`, `model`, EMA weights) and
    removes DistributedDataParallel and torch.compile prefixes.  Raises CaseProblem for an empty
    file, a Git-LFS pointer, a truncated file and anything that is not a state dict.
    """
    import torch
    from safetensors import SafetensorError

    from harness.system.torchvision_shim import import_timm

    again = "download or copy it again"
    try:
        with foreign.open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(64)
    except OSError as error:
        raise fail(f"{path} cannot be read: {error.strerror}.") from None
    if size == 0:
        raise fail(f"{path} is empty (0 bytes): {again}.")
    if start.startswith(_LFS_PREFIX):
        raise fail(
            f"{path} is a Git-LFS pointer ({size} bytes of text), not the weights: "
            "run `git lfs pull` in the repository it came from."
        )
    try:
        state: Any = import_timm().models.load_state_dict(
            str(path), device="cpu", weights_only=True
        )
    except SafetensorError as error:
        detail = str(error)
        if "IncompleteBuffer" in detail or "incomplete" in detail.lower():
            raise fail(f"{path} is truncated ({size} bytes; {detail}): {again}.") from None
        raise fail(f"{path} is not a readable safetensors file ({detail}): {again}.") from None
    except AttributeError:  # timm's reader asked a list or an object for its items
        state = None
    except Exception as error:  # torch.load raises many types on damaged files
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise fail(
            f"{path} cannot be read with weights_only=True ({type(error).__name__}: {detail}): "
            f"{again}, or convert it to model.safetensors."
        ) from None
    good = isinstance(state, dict) and all(isinstance(v, torch.Tensor) for v in state.values())
    if not good or not state:
        raise fail(
            f"{path} holds no state dict (names to tensors): save model.state_dict() as "
            "model.safetensors."
        )
    return dict(state)
