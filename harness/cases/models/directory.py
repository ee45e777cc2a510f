"""Reads a timm model directory from disk: its config.json."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from harness.system import foreign
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

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
    "adapter_config.json": "a PEFT adapter, which is a part of a model",
    "openvino_model.xml": "an OpenVINO model",
    "*.gguf": "a GGUF model",
    "*.engine": "a TensorRT engine",
    "*.mlpackage": "a Core ML model",
    "flax_model.msgpack": "a Flax model",
}


def fail(reason: str) -> CaseProblem:
    """Return a CaseProblem (fail_load, stage load) to be raised."""
    return CaseProblem(Status.FAIL_LOAD, Stage.LOAD, say("load", "{text}", text=reason))


def is_hub_name(text: str) -> bool:
    """Whether a text reads like a name or an address on a model hub."""
    return _HUB_NAME.fullmatch(text) is not None


def check_there(directory: Path) -> None:
    """Raise UsageProblem unless it is a directory; what is in it is said by `read_config`."""
    if os.path.isdir(directory):  # not Path's own: they raise for a name that is too long
        return
    if os.path.exists(directory):
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


def foreign_files(directory: Path) -> str | None:
    """Whose model a directory holds instead, with the file that says so; None for nobody's."""
    for pattern, owner in _FOREIGN_FILES.items():
        for path in sorted(directory.glob(pattern)):
            return f"{owner} ({path.name})"
    return None


def read_config(directory: Path) -> dict[str, Any]:
    """Return config.json of a timm model directory; `architecture` is there and is a string.

    Raises CaseProblem (fail_load) when the directory or config.json is missing, is not readable
    JSON, or belongs to another framework.
    """
    if not os.path.exists(directory):
        raise fail(f"Model directory {directory} does not exist: check the path; {_WANTED}.")
    if not os.path.isdir(directory):
        raise fail(f"{directory} is a file, not a model directory: {_WANTED}.")
    path = directory / "config.json"
    if not os.path.isfile(path):
        other = foreign_files(directory)
        if other:
            raise fail(f"{directory} holds {other}, which this harness does not load: {_WANTED}.")
        raise fail(f"{directory} has no config.json: {_WANTED}.")
    try:
        config = foreign.loads(foreign.read_text(path).removeprefix("\ufeff"))  # a byte order mark
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
    other = foreign_files(directory)
    raise fail(
        f"{path} has no key `architecture`"
        + (f" and {directory} holds {other}" if other else "")
        + ': add the timm name, e.g. "architecture": "efficientnet_b0".'
    )
