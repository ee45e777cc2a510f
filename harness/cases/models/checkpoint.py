"""Reads weights files: safetensors, whole or in shards, and pickles where they are allowed."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.models.directory import fail, foreign_files
from harness.system import foreign
from harness.system.messages import say

if TYPE_CHECKING:
    import torch
    from torch import nn

PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.pth", "model.pth")
_PICKLE_SUFFIXES = (".bin", ".pth", ".pt", ".pth.tar", ".ckpt")
# What trainers and converters leave beside weights, or without them.
_NO_WEIGHTS = ("openvino_model.bin", "training_args.bin", "optimizer.bin", "optimizer.pt",
               "scheduler.bin", "scheduler.pt", "scaler.pt", "rng_state.pth")  # fmt: skip
_INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_LFS_PREFIX = b"version https://git-lfs"
# Entries of a checkpoint that hold weights, the first that is there: timm's order, EMA first.
_ENTRIES = ("state_dict_ema", "model_ema", "state_dict", "model")
# What training and compiling wrappers put before every key, as timm removes them.
_TRAINING = ("_orig_mod.", "module.", "_orig_mod.")
# transformers' TimmWrapper holds a timm model under this name.
_TIMM_WRAPPER = "timm_model."
_AGAIN = say("load.again", "download or copy it again")


def find_weights(directory: Path, *, allow_pickle: bool) -> Path:
    """Return the weights file: model.safetensors, else an index of shards, else the only other.

    Only safetensors where there are some; a pickle needs `allow_pickle`.  Raises CaseProblem when
    there is none, when the choice is not clear, or when there are only pickle files.
    """
    preferred = directory / "model.safetensors"
    other = foreign_files(directory)
    if preferred.is_file():
        return preferred
    indices = sorted(directory.glob(f"*{_INDEX}"))
    safe = indices or sorted(directory.glob("*.safetensors"))
    if len(safe) == 1:
        return safe[0]
    if safe and all(_SHARD.search(path.name) for path in safe):
        raise fail(
            "load.shards",
            "{directory} holds {count} shards ({names}) and not their index, "
            "model{index}: {again} with it.",
            directory=directory,
            count=len(safe),
            names=_names(safe),
            index=_INDEX,
            again=_AGAIN,
        )
    if safe:
        raise fail(
            "load.several_safetensors",
            "{directory} holds {count} safetensors files ({names}) and none is named "
            "model.safetensors: rename the one to test.",
            directory=directory,
            count=len(safe),
            names=_names(safe),
        )
    named = [directory / name for name in PICKLES if (directory / name).is_file()]
    others = sorted({p for s in _PICKLE_SUFFIXES for p in directory.glob(f"*{s}")})
    others = [path for path in others if path.name not in _NO_WEIGHTS]
    pickles = named[:1] or others
    if not pickles:
        raise fail(
            "load.no_weights",
            "{directory} has config.json but no weights file{other}: add model.safetensors.",
            directory=directory,
            other=say("load.it_holds", "; it holds {other}", other=other) if other else "",
        )
    if len(pickles) > 1:
        raise fail(
            "load.several_weights",
            "{directory} holds {count} weights files ({names}): keep the one to test, or "
            "convert it to model.safetensors.",
            directory=directory,
            count=len(pickles),
            names=_names(pickles),
        )
    if not allow_pickle:
        raise fail(
            "load.pickle",
            "{directory} has its weights only as pickle ({name}), which can run code: "
            "convert it to model.safetensors, or give --allow-pickle (allow_pickle = true "
            "in a case file), and it is read with weights_only=True.",
            directory=directory,
            name=pickles[0].name,
        )
    return pickles[0]


def parts(path: Path) -> list[Path]:
    """All files that a weights file stands for: itself, and the shards of an index.

    Raises CaseProblem for an index that is none or names files of another folder.
    """
    if not path.name.endswith(_INDEX):
        return [path]
    try:
        index = foreign.loads(foreign.read_text(path))
        names = sorted(set(index["weight_map"].values()))
    except OSError as error:
        raise fail(
            "load.unreadable", "{path} cannot be read: {error}.", path=path, error=error.strerror
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise fail(
            "load.no_index",
            "{path} is no index of safetensors files (`weight_map`): {again}.",
            path=path,
            again=_AGAIN,
        ) from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name.startswith("."):
            raise fail(
                "load.index_names",
                "{path} names {name!r}, which is no file beside it: {again}.",
                path=path,
                name=name,
                again=_AGAIN,
            )
        if not (path.parent / name).is_file():
            raise fail(
                "load.index_lacks",
                "{path} names {name}, which is not there: {again}.",
                path=path,
                name=name,
                again=_AGAIN,
            )
    return [path, *(path.parent / name for name in names)]


def read(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The state dict in a weights file, on the CPU, as stored, and what was done to come to it.

    Checkpoints are unwrapped as timm does (EMA weights first), prefixes of wrappers removed.
    Raises CaseProblem for an empty file, a Git-LFS pointer, a truncated file and anything that is
    not a state dict.
    """
    import torch

    notes: list[str] = []
    shards = parts(path)
    if len(shards) > 1:
        state: Any = {}
        for shard in shards[1:]:
            state |= _read_one(shard)
        notes.append(f"{len(shards) - 1} shards of {path.name}")
    else:
        state = _read_one(path)
        if isinstance(state, dict):
            entries = [name for name in _ENTRIES if state.get(name) is not None]
            if entries:
                state = state[entries[0]]
                also = f", not {', '.join(entries[1:])}" if entries[1:] else ""
                notes.append(f"entry {entries[0]} of the checkpoint{also}")
    good = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    )
    if not good or not state:
        raise fail(
            "load.no_state_dict",
            "{path} holds no state dict (names to tensors): save model.state_dict() as "
            "model.safetensors.",
            path=path,
        )
    return _unwrapped(dict(state), notes), notes


def converted(
    state: dict[str, torch.Tensor], model: nn.Module
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Apply timm's own conversion of older checkpoints of a family, where names do not match.

    timm keeps it as `checkpoint_filter_fn` beside the model class; its own hub loading applies
    it too (some published swin and beit files need it).
    """
    names = set(model.state_dict())
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or set(state) == names:
        return state, []
    try:
        result = dict(convert(dict(state), model))
    except Exception:  # made for one layout; anything else may break it
        return state, []
    if len(names ^ set(result)) >= len(names ^ set(state)):
        return state, []
    return result, [f"{len(state)} tensors of the file converted by timm's checkpoint_filter_fn"]


def _unwrapped(state: dict[str, torch.Tensor], notes: list[str]) -> dict[str, torch.Tensor]:
    """Keys without what wrappers put before every one of them."""
    found = {}
    for name, value in state.items():
        for prefix in _TRAINING if name.startswith(_TRAINING) else ():
            name = name.removeprefix(prefix)
        found[name] = value
    if len(found) < len(state):
        return state  # two keys became one
    if all(name.startswith(_TIMM_WRAPPER) for name in found):
        notes.append(f"prefix {_TIMM_WRAPPER} of transformers' TimmWrapper removed")
        return {name.removeprefix(_TIMM_WRAPPER): value for name, value in found.items()}
    return found


def _read_one(path: Path) -> Any:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with foreign.open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(64)
    except OSError as error:
        raise fail(
            "load.unreadable", "{path} cannot be read: {error}.", path=path, error=error.strerror
        ) from None
    if size == 0:
        raise fail("load.empty", "{path} is empty (0 bytes): {again}.", path=path, again=_AGAIN)
    if start.startswith(_LFS_PREFIX):
        raise fail(
            "load.lfs",
            "{path} is a Git-LFS pointer ({size} bytes of text), not the weights: run "
            "`git lfs pull` in the repository it came from.",
            path=path,
            size=size,
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        detail = str(error)
        if "IncompleteBuffer" in detail or "incomplete" in detail.lower():
            raise fail(
                "load.truncated",
                "{path} is truncated ({size} bytes; {detail}): {again}.",
                path=path,
                size=size,
                detail=detail,
                again=_AGAIN,
            ) from None
        raise fail(
            "load.damaged",
            "{path} is not a readable safetensors file ({detail}): {again}.",
            path=path,
            detail=detail,
            again=_AGAIN,
        ) from None
    except MemoryError:
        raise fail(
            "load.memory",
            "{path} ({size} bytes) needs more memory than there is.",
            path=path,
            size=size,
        ) from None
    except Exception as error:  # both readers raise many types on damaged files
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        how = "" if path.suffix == ".safetensors" else " with weights_only=True"
        raise fail(
            "load.no_reader",
            "{path} cannot be read{how} ({kind}: {detail}): {again}, or convert it to "
            "model.safetensors.",
            path=path,
            how=how,
            kind=type(error).__name__,
            detail=detail,
            again=_AGAIN,
        ) from None


def _names(paths: list[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:3])
    return shown + (", ..." if len(paths) > 3 else "")
