"""Reads a timm model directory from disk: its config.json."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from harness.system import foreign
from harness.system.messages import Said, say
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

# "timm/resnet50.a1_in1k", with the prefixes and addresses that timm and browsers put before it.
_HUB_NAME = re.compile(
    r"(?:hf[-_]hub:|https?:/+(?:huggingface\.co|hf\.co|(?:www\.)?modelscope\.cn)/+"
    r"(?:models/)?)?(?P<name>\w[\w.-]*/\w[\w.-]*)/?"
)
_WANTED = say("load.wanted", "a timm model directory holds config.json and model.safetensors")

# File name (glob) -> whose format it is.
_FOREIGN_FILES = {
    "saved_model.pb": say("owner.tensorflow", "a TensorFlow SavedModel"),
    "*.onnx": say("owner.onnx", "an ONNX model"),
    "*.om": say("owner.ascend", "an Ascend offline model"),
    "*.mindir": say("owner.mindspore", "a MindSpore model"),
    "*.ckpt": say("owner.checkpoint", "a MindSpore or TensorFlow checkpoint"),
    "*.pdmodel": say("owner.paddle", "a PaddlePaddle model"),
    "*.pdparams": say("owner.paddle", "a PaddlePaddle model"),
    "*.tflite": say("owner.tflite", "a TensorFlow Lite model"),
    "*.keras": say("owner.keras", "a Keras model"),
    "*.h5": say("owner.keras", "a Keras model"),
    "model_index.json": say("owner.diffusers", "a diffusers pipeline"),
    "open_clip_config.json": say("owner.openclip", "an OpenCLIP model"),
    "adapter_config.json": say("owner.peft", "a PEFT adapter, which is a part of a model"),
    "openvino_model.xml": say("owner.openvino", "an OpenVINO model"),
    "*.gguf": say("owner.gguf", "a GGUF model"),
    "*.engine": say("owner.tensorrt", "a TensorRT engine"),
    "*.mlpackage": say("owner.coreml", "a Core ML model"),
    "flax_model.msgpack": say("owner.flax", "a Flax model"),
}


def fail(key: str, english: str, /, **values: object) -> CaseProblem:
    """Return a CaseProblem (fail_load, stage load), said as by `say`, to be raised."""
    return CaseProblem(Status.FAIL_LOAD, Stage.LOAD, say(key, english, **values))


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


def foreign_files(directory: Path) -> Said | None:
    """Whose model a directory holds instead, with the file that says so; None for nobody's."""
    for pattern, owner in _FOREIGN_FILES.items():
        for path in sorted(directory.glob(pattern)):
            return say("load.owner", "{owner} ({file})", owner=owner, file=path.name)
    return None


def read_config(directory: Path) -> dict[str, Any]:
    """Return config.json of a timm model directory; `architecture` is there and is a string.

    Raises CaseProblem (fail_load) when the directory or config.json is missing, is not readable
    JSON, or belongs to another framework.
    """
    if not os.path.exists(directory):
        raise fail(
            "load.no_directory",
            "Model directory {directory} does not exist: check the path; {wanted}.",
            directory=directory,
            wanted=_WANTED,
        )
    if not os.path.isdir(directory):
        raise fail(
            "load.a_file",
            "{directory} is a file, not a model directory: {wanted}.",
            directory=directory,
            wanted=_WANTED,
        )
    path = directory / "config.json"
    if not os.path.isfile(path):
        other = foreign_files(directory)
        if other:
            raise fail(
                "load.foreign",
                "{directory} holds {other}, which this harness does not load: {wanted}.",
                directory=directory,
                other=other,
                wanted=_WANTED,
            )
        raise fail(
            "load.no_config",
            "{directory} has no config.json: {wanted}.",
            directory=directory,
            wanted=_WANTED,
        )
    try:
        config = foreign.loads(foreign.read_text(path).removeprefix("\ufeff"))  # a byte order mark
    except OSError as error:
        raise fail(
            "load.unreadable", "{path} cannot be read: {error}.", path=path, error=error.strerror
        ) from None
    except ValueError as error:
        raise fail(
            "load.not_json",
            "{path} is not JSON ({error}): restore it from the model's source.",
            path=path,
            error=error,
        ) from None
    if not isinstance(config, dict):
        raise fail(
            "load.json_kind",
            "{path} holds a JSON {kind}, not an object with the key `architecture`: "
            "restore it from the model's source.",
            path=path,
            kind=type(config).__name__,
        )
    architecture = config.get("architecture")
    if isinstance(architecture, str) and architecture:
        return config
    if architecture is not None:
        raise fail(
            "load.architecture_kind",
            "`architecture` in {path} is {architecture}, not a name: give a timm "
            'architecture, e.g. "architecture": "efficientnet_b0".',
            path=path,
            architecture=repr(architecture),
        )
    if "model_type" in config or "architectures" in config:
        what = config.get("model_type") or config["architectures"]
        raise fail(
            "load.transformers",
            "{path} is a Hugging Face transformers config ({what}), not a timm one: use "
            "the timm repository of the model, whose config.json has the key "
            "`architecture`.",
            path=path,
            what=what,
        )
    if "_class_name" in config:
        raise fail(
            "load.diffusers",
            "{path} is a diffusers config ({name}), not a timm one: {wanted}.",
            path=path,
            name=config["_class_name"],
            wanted=_WANTED,
        )
    other = foreign_files(directory)
    raise fail(
        "load.no_architecture",
        '{path} has no key `architecture`{other}: add the timm name, e.g. "architecture": '
        '"efficientnet_b0".',
        path=path,
        other=other and say("load.and_holds", " and {directory} holds {other}",
                            directory=directory, other=other) or "",
    )  # fmt: skip
