"""Pictures of a case's images and names of its classes, made where torch and timm are loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from harness.cases import image_files, inputs
from harness.cases.inputs import InputSet
from harness.cases.models import config_values, directory
from harness.cases.models.class_names import class_name
from harness.cases.models.model_files import ModelFiles
from harness.records.views import PICTURE_SIDE

_QUALITY = 50  # of JPEG: two kilobytes at most


def jpegs(images: InputSet, data_config: dict[str, Any], wanted: Sequence[int]) -> list[str]:
    """What the model gets, as small JPEG files in base64: normalisation undone, values clipped.

    `wanted`: numbers of the images.  Raises CaseProblem as `inputs.load_inputs` does.
    """
    import torch
    from PIL import Image

    tensors = inputs.load_inputs(images)[list(wanted)]
    mean, std = (
        torch.tensor(data_config[key], dtype=torch.float32).view(-1, 1, 1)
        for key in ("mean", "std")
    )
    found = []
    for tensor in tensors:
        pixels = ((tensor * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
        picture = Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())
        found.append(image_files.small_jpeg(picture, PICTURE_SIDE, _QUALITY))
    return found


def names(model: ModelFiles, classes: int, wanted: Collection[int]) -> dict[int, str]:
    """Names of classes, by index; `classes`: how many the model has."""
    own, _ = config_values.label_names(directory.read_config(model.directory), classes)
    return {index: class_name(index, classes, own) for index in wanted}
