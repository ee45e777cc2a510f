"""What a model is, kept with its records: a report is made where the model is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """`input_size`: [C, H, W].  `hub`, `license`: as config.json says, "" where it does not.

    `label_names`: how many class names are in config.json.
    """

    architecture: str
    num_classes: int
    parameters: int
    input_size: tuple[int, ...]
    hub: str = ""
    license: str = ""
    label_names: int = 0


def facts(
    config: Mapping[str, Any], num_classes: int, parameters: int, input_size: tuple[int, ...]
) -> ModelFacts:
    """Facts of a model that was loaded by a config.json in timm's hub format."""
    nested = config.get("pretrained_cfg")
    merged = {**config, **(nested if isinstance(nested, dict) else {})}

    def text(key: str) -> str:
        value = merged.get(key)
        return value if isinstance(value, str) else ""

    names = config.get("label_names")
    return ModelFacts(
        architecture=str(config["architecture"]),
        num_classes=num_classes,
        parameters=parameters,
        input_size=tuple(input_size),
        hub=text("hf_hub_id"),
        license=text("license"),
        label_names=len(names) if isinstance(names, (list, dict)) else 0,
    )
