"""What timm reads of config.json: checked by key, type, allowed values and range.

One boundary for both kinds of input and for inference: a value that only one of them would meet
is refused by all, before a model is built.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from harness.cases.models.directory import fail
from harness.cases.models.weight_account import show_first
from harness.system.messages import say

# Of one side: what published models take is below 1,024.
_MOST_PIXELS = 4096
_MOST_CLASSES = 10**6

_Side = Annotated[int, pydantic.Field(ge=1, le=_MOST_PIXELS)]
# Of pixels that are scaled to 0 to 1 before; both are far outside where they are of 0 to 255.
_Mean = Annotated[float, pydantic.Field(ge=0, le=1, allow_inf_nan=False)]
_Deviation = Annotated[float, pydantic.Field(gt=0, le=1, allow_inf_nan=False)]
_PerChannel = pydantic.Field(min_length=1, max_length=_MOST_PIXELS)


_HINTS = dict.fromkeys(
    ("mean", "std"),
    say("load.of_unit_pixels", " (of pixels from 0 to 1: divide those of 0 to 255)"),
)


class _Values(pydantic.BaseModel):
    """Keys of `pretrained_cfg`, or of config.json itself, that change inputs or the model.

    A smaller crop_pct than a tenth would have every image scaled to ten times the model's size;
    timm's own go up to 1.15, which puts a border around the image.
    """

    model_config = pydantic.ConfigDict(extra="ignore", strict=True)
    num_classes: Annotated[int, pydantic.Field(ge=0, le=_MOST_CLASSES)] | None = None
    input_size: Annotated[list[_Side], pydantic.Field(min_length=3, max_length=3)] | None = None
    mean: Annotated[list[_Mean], _PerChannel] | None = None
    std: Annotated[list[_Deviation], _PerChannel] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None = (
        None
    )
    crop_pct: Annotated[float, pydantic.Field(ge=0.1, le=1.5)] | None = None
    crop_mode: Literal["center", "squash", "border"] | None = None


class _Arguments(pydantic.BaseModel):
    """Of `model_args`: what the inputs must agree with; the rest is the model's own."""

    model_config = pydantic.ConfigDict(extra="ignore", strict=True)
    in_chans: Annotated[int, pydantic.Field(ge=1, le=_MOST_PIXELS)] | None = None
    img_size: _Side | Annotated[list[_Side], pydantic.Field(min_length=2, max_length=2)] | None = (
        None
    )


def check(flat: Mapping[str, Any], nested: Mapping[str, Any], where: str) -> None:
    """Check config.json's own keys and those of its `pretrained_cfg`.  Raises CaseProblem."""
    _check(_Values, flat, "", where)
    _check(_Values, nested, "pretrained_cfg.", where)


def check_sizes(values: Mapping[str, Any], arguments: Mapping[str, Any], where: str) -> None:
    """Check `model_args`, and the inputs' size against it.  Raises CaseProblem."""
    _check(_Arguments, arguments, "model_args.", where)
    size, channels = values.get("input_size"), arguments.get("in_chans") or 3
    if size is not None and size[0] != channels:
        said = say("load.is", "is")
        if "in_chans" not in arguments:
            said = say("load.is_not_there", "is not there, which means")
        raise fail(
            "load.channels_differ",
            "`input_size` in {where} is {size} and model_args.in_chans {said} {channels}: set "
            "both to the channels that the weights were trained with, and `mean` and `std` to a "
            "number for each.",
            where=where,
            size=list(size),
            said=said,
            channels=channels,
        )
    image = arguments.get("img_size")
    fixed = not arguments.get("dynamic_img_size") and arguments.get("strict_img_size", True)
    sides = [image, image] if isinstance(image, int) else image
    if size is not None and sides is not None and fixed and list(size[1:]) != list(sides):
        raise fail(
            "load.size_differs",
            "`input_size` in {where} is {size} and `model_args.img_size` is {image}: make "
            "them equal, or set model_args.dynamic_img_size.",
            where=where,
            size=list(size),
            image=image,
        )


def per_channel(data_config: dict[str, Any], where: str) -> dict[str, Any]:
    """timm's preprocessing with a mean and deviation for each channel; a lone one is for all.

    Raises CaseProblem where their number is another.
    """
    channels = data_config["input_size"][0]
    for key in ("mean", "std"):
        values = tuple(data_config[key])
        if len(values) not in (1, channels):
            raise fail(
                "load.per_channel",
                "`{key}` in {where} has {count} numbers (timm's own where it is not there), "
                "the model takes {channels} channels: give one for each.",
                key=key,
                where=where,
                count=len(values),
                channels=channels,
            )
        data_config[key] = values * channels if len(values) == 1 else values
    return data_config


def label_names(config: Mapping[str, Any], classes: int) -> tuple[Any, str]:
    """The names of the classes, None where they are not used, and what is odd about them."""
    names = config.get("label_names")
    if names is None or not classes:
        return None, ""
    if not isinstance(names, (list, dict)):
        return None, "label_names in config.json is no list and no object: not used"
    given = names.values() if isinstance(names, dict) else names
    if not all(isinstance(name, str) for name in given):
        return None, "label_names in config.json has other values than texts: not used"
    if len(names) != classes:
        return None, f"label_names has {len(names)} names for {classes} classes: not used"
    twice = sorted(name for name, count in collections.Counter(given).items() if count > 1)
    return names, f"label_names has {show_first(twice)} more than once" if twice else ""


def _check(
    model: type[pydantic.BaseModel], values: Mapping[str, Any], prefix: str, where: str
) -> None:
    try:
        model.model_validate(dict(values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        said = first["msg"].removeprefix("Input ").removeprefix("Value ")
        raise fail(
            "load.value",
            "`{prefix}{key}` in {where} is {value}, which cannot be right: {place} {said}{hint}.",
            prefix=prefix,
            key=key,
            where=where,
            value=_shown(values[key]),
            place=".".join(map(str, first["loc"])),
            said=said,
            hint=_HINTS.get(key, ""),
        ) from None


def _shown(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
