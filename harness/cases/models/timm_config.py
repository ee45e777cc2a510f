"""config.json in timm's hub format."""

from __future__ import annotations

import dataclasses
from typing import Any


def config_fields() -> set[str]:
    """Keys timm allows in `pretrained_cfg`, without those that say where to fetch weights."""
    from harness.system.torchvision_shim import import_timm

    fields = {field.name for field in dataclasses.fields(import_timm().models.PretrainedCfg)}
    return fields - {"url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict"}


def timm_config(architecture: str, model: Any, harness_weights: dict[str, Any]) -> dict[str, Any]:
    """Return config.json of a model in timm's hub format, with where its weights came from.

    Addresses of timm's own weights are left out: these are not those weights.
    """
    kept = {k: v for k, v in model.pretrained_cfg.items() if k in config_fields()}
    kept["num_classes"] = model.num_classes
    return {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "pretrained_cfg": kept,
        "harness_weights": harness_weights,
    }
