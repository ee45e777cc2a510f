"""Turns a model source into a CPU model whose weights are accounted for, key by key."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.case import ModelSource
from harness.cases.models import (
    checkpoint,
    config_values,
    directory,
    sample,
    timm_config,
    undrawn,
    weight_account,
)
from harness.cases.models.directory import fail
from harness.cases.models.model_facts import ModelFacts, facts
from harness.cases.models.weight_account import UNREAD, WeightAccount, show_first
from harness.system import environment, files, own_models, process, suggestions
from harness.system.messages import say
from harness.system.status import CaseProblem
from harness.system.torchvision_shim import import_timm

if TYPE_CHECKING:
    import torch
    from torch import nn


# Of a floating-point parameter in a file; what is wider than float32 is cast, and said to be.
_DTYPES = frozenset(("float32", "float64", "float16", "bfloat16"))
# What timm.create_model and build_model_with_cfg take for themselves: files, caches, downloads.
_CREATE_MODEL = frozenset(
    ("model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path",
     "cache_dir", "scriptable", "exportable", "no_jit", "pretrained_strict",
     "pretrained_filter_fn", "pretrained_custom_load", "kwargs_filter", "model_cls", "variant")
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A timm model in eval mode, on the CPU, in float32, with where it came from.

    `data_config` is timm's preprocessing (input_size, mean, std, interpolation, crop_pct,
    crop_mode).  `weights_sha256` covers names, dtypes, shapes and bytes of the state dict.
    `weights_description`: "file model.safetensors", "sample efficientnet-lite0 (...)", ...
    """

    model: nn.Module
    data_config: dict[str, Any]
    weights: WeightAccount
    weights_sha256: str
    config: dict[str, Any]
    description: str
    weights_description: str
    num_classes: int
    label_names: Any = None  # list, or object by index, where it is the model's; else None
    facts: ModelFacts | None = None  # None: a module of the user's own
    taps_features: bool = True  # whether what forward_features gives is an output as well


def check_architecture(name: str) -> None:
    """Raise CaseProblem (fail_load), with near names, unless timm knows architecture `name`.

    A name such as "resnet50.a1_in1k" (with a tag of timm) is known when "resnet50" is.
    """
    timm = import_timm()
    # "hf-hub:..." and "local-dir:..." would make timm leave this directory, or this machine.
    if "/" not in name and ":" not in name and timm.is_model(name.partition(".")[0]):
        return
    near = suggestions.near(name.partition(".")[0], timm.list_models())
    hint = (
        say("load.near", "did you mean {near}?", near=near)
        if near
        else say("load.see", "see timm.list_models().")
    )
    raise fail(
        "load.unknown_architecture",
        "timm {version} has no architecture {name!r}: {hint}",
        version=timm.__version__,
        name=name,
        hint=hint,
    )


def build(
    config: dict[str, Any], num_classes: int | None, where: str, *, drawn: bool = True
) -> tuple[nn.Module, list[str]]:
    """Make the model that a config describes, with timm's values for what it does not say.

    `config`: at least `architecture`; `where`: what it is called in errors.  Returns the model,
    with weights as timm draws them (not `drawn`: with whatever numbers there were, which takes a
    tenth of the time for a large transformer), and notes.  Raises CaseProblem (fail_load).
    """
    from harness.cases.models.random_weights import seeded_cpu

    timm = import_timm()
    check_architecture(config["architecture"])
    fields = timm_config.config_fields()  # never an address: nothing is to be fetched
    nested, arguments = config.get("pretrained_cfg"), config.get("model_args")
    nested = {} if nested is None else nested
    arguments = {} if arguments is None else arguments
    if not isinstance(nested, dict) or not isinstance(arguments, dict):
        raise fail(
            "load.not_objects",
            "`pretrained_cfg` and `model_args` in {where} must be JSON objects.",
            where=where,
        )
    if owned := sorted(_CREATE_MODEL.intersection(arguments)):
        raise fail(
            "load.create_model",
            "`model_args` in {where} has {owned}, which is no argument of a model but of "
            "timm's create_model: remove it; weights are those of this directory alone.",
            where=where,
            owned=", ".join(owned),
        )
    # As timm: the nested table wins over flat keys, but for num_classes.
    merged = {**config, **nested}
    overlay = {key: value for key, value in merged.items() if key in fields and value is not None}
    overlay.pop("architecture", None)
    config_values.check(config, nested, where)
    config_values.check_sizes(overlay, arguments, where)
    for key in ("input_size", "mean", "std"):
        if key in overlay:
            overlay[key] = tuple(overlay[key])
    if "input_size" not in overlay and (size := arguments.get("img_size")) is not None:
        sides = [size, size] if isinstance(size, int) else size
        overlay["input_size"] = (arguments.get("in_chans") or 3, *sides)
    classes = config.get("num_classes", nested.get("num_classes"))
    own = arguments.get("num_classes")
    if num_classes is None and None not in (own, classes) and own != classes:
        raise fail(
            "load.two_classes",
            "{where} says num_classes {classes} and in `model_args` {own}: remove the one "
            "that the weights do not have.",
            where=where,
            classes=classes,
            own=own,
        )
    wanted = num_classes if num_classes is not None else classes
    if wanted is not None:
        overlay["num_classes"] = wanted
        arguments = {**arguments, "num_classes": wanted}
    try:
        # Allowed missing keys get the same values in every process.
        with seeded_cpu(0), contextlib.nullcontext() if drawn else undrawn.without_draws():
            model = timm.create_model(
                config["architecture"],
                pretrained=False,
                pretrained_cfg_overlay=overlay,
                **arguments,
            )
    except Exception as error:  # constructors raise what they like on bad arguments
        raise fail(
            "load.cannot_build",
            "timm {version} cannot build {architecture} as {where} says ({kind}: "
            "{error}): correct `model_args` or `pretrained_cfg`.",
            version=timm.__version__,
            architecture=config["architecture"],
            where=where,
            kind=type(error).__name__,
            error=error,
        ) from error
    if "input_size" not in overlay and (channels := arguments.get("in_chans")) is not None:
        size = model.pretrained_cfg.get("input_size") or (3, 224, 224)
        model.pretrained_cfg["input_size"] = (channels, *size[1:])
    unknown = sorted(set(nested) - {f.name for f in dataclasses.fields(timm.models.PretrainedCfg)})
    notes = (
        [f"pretrained_cfg keys unknown to timm ignored: {show_first(unknown)}"] if unknown else []
    )
    return model, notes


def _load_state(
    model: nn.Module, state: dict[str, torch.Tensor], allow_keys: tuple[str, ...], path: Path
) -> WeightAccount:
    """Copy what fits into the model and account for the rest.

    Raises CaseProblem for quantised weights, which mean nothing without their scales.
    """
    state, notes = checkpoint.converted(state, model)
    own = model.state_dict()
    good: dict[str, torch.Tensor] = {}
    mismatched, nonfinite = [], []
    casts: dict[str, int] = {}
    for name, tensor in state.items():
        if name not in own:
            continue
        if tensor.shape != own[name].shape:
            mismatched.append((name, tuple(tensor.shape), tuple(own[name].shape)))
            continue
        kind = str(tensor.dtype).removeprefix("torch.")
        if own[name].is_floating_point() and kind not in _DTYPES:
            raise fail(
                "load.quantised",
                "{path} has {name} as {kind}, which stands for weights by scales that no timm "
                "model reads: use weights in float32, float16 or bfloat16.",
                path=path,
                name=name,
                kind=kind,
            )
        if tensor.is_floating_point():
            # What the model itself starts with may be infinite by design: buffers of bounds.
            given = tensor.isfinite() | (tensor == own[name].to(tensor.dtype))
            bad = tensor.numel() - int(given.sum())
            if bad:
                nonfinite.append((name, bad))
        if tensor.dtype != own[name].dtype:
            casts[kind] = casts.get(kind, 0) + 1
        good[name] = tensor.to(own[name].dtype)
    model.load_state_dict(good, strict=False)
    for kind, count in sorted(casts.items()):
        notes.append(f"{count} tensors cast from {kind}")
    missing = tuple(name for name in own if name not in state and not name.endswith(UNREAD))
    if unread := [name for name in own if name not in state and name.endswith(UNREAD)]:
        notes.append(f"{len(unread)} {UNREAD[1:]}, which no forward reads, not in the file")
    unexpected = tuple(name for name in state if name not in own)
    trouble = [*missing, *unexpected, *(name for name, _, _ in mismatched)]
    allowed = tuple(n for n in trouble if any(fnmatchcase(n, pattern) for pattern in allow_keys))
    known = {*own, *state}
    return WeightAccount(
        loaded=len(good),
        expected=len(own),
        missing=missing,
        unexpected=unexpected,
        mismatched=tuple(mismatched),
        nonfinite=tuple(nonfinite),
        allowed=allowed,
        idle=tuple(one for one in allow_keys if not any(fnmatchcase(n, one) for n in known)),
        notes=tuple(notes),
    )


def load_model(
    source_dir: Path,
    *,
    num_classes: int | None = None,
    allow_keys: tuple[str, ...] = (),
    allow_pickle: bool = False,
) -> LoadedModel:
    """Load a timm model directory on the CPU in float32, in eval mode.

    `num_classes` overrides config.json.  `allow_keys` are names or fnmatch patterns of keys that
    may be missing, unexpected or mis-shaped.  Nothing is ever downloaded.  Raises CaseProblem
    (fail_load, stage load), one sentence, for every bad input.
    """
    source_dir = Path(source_dir)
    config = directory.read_config(source_dir)
    check_architecture(config["architecture"])
    where = str(source_dir / "config.json")
    path = checkpoint.find_weights(source_dir, allow_pickle=allow_pickle)
    state, read = checkpoint.read(path)
    model, notes = build(config, num_classes, where, drawn=False)
    if not undrawn.fits(model, state):
        model, notes = build(config, num_classes, where)
    account = _load_state(model, state, allow_keys, path)
    del state  # its memory may be needed
    account = dataclasses.replace(account, notes=(*read, *account.notes, *notes))
    classes = int(getattr(model, "num_classes", 0))
    said = "num_classes" in config or "num_classes" in (config.get("pretrained_cfg") or {})
    asked = "config.json" if said else "timm"
    if num_classes is not None:
        asked = say("load.option", "the option")
    weight_account.check(account, path, classes, asked)
    names, odd = config_values.label_names(config, classes)
    if odd:
        account = dataclasses.replace(account, notes=(*account.notes, odd))
    model = model.float().eval().requires_grad_(False)
    digest = files.sha256_tensors(model.state_dict())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    data_config = config_values.per_channel(
        dict(import_timm().data.resolve_data_config(model=model)), where
    )
    return LoadedModel(
        model=model,
        data_config=data_config,
        weights=account,
        weights_sha256=digest,
        config=config,
        description=(
            f"{config['architecture']}, {classes} classes, {parameters / 1e6:.2f} M parameters, "
            f"{account.summary()}"
        ),
        weights_description=timm_config.weights_description(config, path, digest),
        num_classes=classes,
        label_names=names,
        facts=facts(config, classes, parameters, data_config["input_size"]),
    )


def materialise(source: ModelSource, cache_dir: Path) -> Path:
    """Turn a source into a timm model directory, so that all devices load by one path.

    "directory" gives the directory itself; "sample" the converted sample model; "architecture"
    a directory with discriminating random weights, made once per architecture, classes, seed,
    recipe and version of timm.  Raises CaseProblem (fail_load).
    """
    if source.kind == "directory":
        return Path(source.ref)
    if source.kind == "sample":
        if source.ref != sample.SAMPLE_NAME:
            raise fail(
                "load.no_sample",
                "No sample model {name!r}: the known one is {known}.",
                name=source.ref,
                known=sample.SAMPLE_NAME,
            )
        return sample.prepare_sample(sample.default_sample_dir(cache_dir))
    return _random_model(source, cache_dir)


def random_directory(source: ModelSource, cache_dir: Path) -> tuple[Path, dict[str, Any]]:
    """Where an architecture's random weights are, or will be, and what they depend on.

    Neither torch nor timm is imported; every torch gives the same weights.
    """
    from harness.cases.models import random_weights

    versions = {"recipe": random_weights.RECIPE, "timm": environment.version("timm")}
    if own := own_models.fingerprint():
        versions["own_models"] = own
    key = files.sha256_json(versions)[:12]
    classes = "own" if source.num_classes is None else str(source.num_classes)
    name = f"{source.ref}-c{classes}-s{source.seed}-{key}"
    return Path(cache_dir) / "models" / name, versions


def _random_model(source: ModelSource, cache_dir: Path) -> Path:
    target, versions = random_directory(source, cache_dir)
    if timm_config.is_whole(target):
        return target
    with files.exclusive(cache_dir, hashlib.sha256(target.name.encode()).hexdigest()):
        if not timm_config.is_whole(target):  # another process may have made it meanwhile
            _make_random_model(source, target, versions)
            process.release()  # of what it was made in: it is loaded next
    return target


def _make_random_model(source: ModelSource, target: Path, versions: dict[str, Any]) -> None:
    from harness.cases.models import random_weights

    check_architecture(source.ref)
    classes = str(source.num_classes)
    if source.num_classes is None:
        classes = say("load.its_own", "its own")
    timm = import_timm()
    try:
        with random_weights.seeded_cpu(source.seed):
            model = timm.create_model(source.ref, pretrained=False, num_classes=source.num_classes)
    except Exception as error:
        raise fail(
            "load.cannot_make",
            "timm {version} cannot build {name} with {classes} classes ({kind}: {error}).",
            version=timm.__version__,
            name=source.ref,
            classes=classes,
            kind=type(error).__name__,
            error=error,
        ) from error
    try:
        measured = random_weights.make_discriminating(model, source.seed)
    except (CaseProblem, OSError, MemoryError):
        raise
    except Exception as error:  # of the model's own code, on one of its first forwards
        raise fail(
            "load.no_random",
            "No random weights that tell images apart can be made for {name} ({kind}: "
            "{error}): give a model directory with weights.",
            name=source.ref,
            kind=type(error).__name__,
            error=error,
        ) from error
    with files.publish_directory(target) as directory:
        state = model.state_dict()
        files.save_tensors(state, directory / "model.safetensors", {"format": "pt"})
        origin = {
            "kind": "discriminating_random",
            "seed": source.seed,
            **versions,
            "torch": environment.version("torch"),
            "measured": measured.as_dict(),
            "sha256": files.sha256_file(directory / "model.safetensors"),
            "weights_sha256": files.sha256_tensors(state),
        }
        config = timm_config.timm_config(source.ref, model, origin)
        files.write_json(config, directory / "config.json")
