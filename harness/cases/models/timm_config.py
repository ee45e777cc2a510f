"""config.json in timm's hub format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.system import files, foreign

# How the description of weights begins that the harness made.
RANDOM = "discriminating random"
_SELF = "config_sha256"  # of config.json without this entry


def config_fields() -> set[str]:
    """Keys timm allows in `pretrained_cfg`, without those that say where to fetch weights."""
    from harness.system.torchvision_shim import import_timm

    fields = {field.name for field in dataclasses.fields(import_timm().models.PretrainedCfg)}
    return fields - {"url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict"}


def timm_config(architecture: str, model: Any, harness_weights: dict[str, Any]) -> dict[str, Any]:
    """Return config.json of a model in timm's hub format, with where its weights came from.

    `harness_weights` has the `sha256` of model.safetensors and gets one of all the rest.

    Addresses of timm's own weights are left out: these are not those weights.
    """
    kept = {k: v for k, v in model.pretrained_cfg.items() if k in config_fields()}
    kept["num_classes"] = model.num_classes
    config = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "pretrained_cfg": kept,
        "harness_weights": harness_weights,
    }
    return {**config, "harness_weights": {**harness_weights, _SELF: files.sha256_json(config)}}


def is_whole(directory: Path) -> bool:
    """Whether a model that was stored with such a config is there and undamaged, all of it."""
    try:
        config = foreign.loads(foreign.read_text(directory / "config.json"))
        claim = dict(config["harness_weights"])
        said = claim.pop(_SELF)
        if said != files.sha256_json({**config, "harness_weights": claim}):
            return False
        return bool(claim["sha256"] == files.fingerprint(directory / "model.safetensors"))
    except (OSError, ValueError, TypeError, KeyError):
        return False


def weights_description(config: dict[str, Any], path: Path, digest: str) -> str:
    """Where the weights came from; a claim in config.json counts only if its hash holds."""
    claim = config.get("harness_weights")
    if not isinstance(claim, dict):
        return f"file {path.name}"
    if claim.get("weights_sha256") != digest:
        return f"file {path.name} (changed since config.json was written)"
    if claim.get("kind") == "sample":
        return f"sample {claim.get('name')} ({claim.get('source')})"
    return f"{RANDOM} (recipe {claim.get('recipe')}, seed {claim.get('seed')})"
