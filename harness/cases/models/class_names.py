"""Names of ImageNet classes, from the tables inside timm."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any


@functools.cache
def _imagenet_info(num_classes: int) -> Any | None:
    from harness.system.torchvision_shim import import_timm

    data = import_timm().data
    subset = data.infer_imagenet_subset({"num_classes": num_classes})
    return data.ImageNetInfo(subset) if subset else None


def synsets(num_classes: int) -> tuple[str, ...]:
    """The WordNet synsets ("n01440764") of an ImageNet set with so many classes, in their order.

    Empty where timm knows no such set.
    """
    info = _imagenet_info(num_classes)
    return tuple(info.label_names()) if info is not None else ()


def class_name(
    index: int, num_classes: int, label_names: Sequence[str] | Mapping[str, str] | None = None
) -> str:
    """Return a readable name of class `index` of a model with `num_classes` classes.

    `label_names` is what a model's own config.json says (key `label_names`) and goes first.
    Otherwise timm's ImageNetInfo answers where the number of classes is that of an ImageNet
    set (1000, 11221, 11821, 21841, 21842, 21843).  Any other class is "class 17".
    """
    plain = f"class {index}"
    if label_names:
        if isinstance(label_names, Mapping):
            return label_names.get(str(index), plain)
        return str(label_names[index]) if 0 <= index < len(label_names) else plain
    info = _imagenet_info(num_classes)
    if info is None or not 0 <= index < info.num_classes():
        return plain
    return str(info.index_to_description(index))
