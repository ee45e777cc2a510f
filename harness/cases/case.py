"""What is tested: cases, their sources and their readable, stable ids."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Literal

DTYPES = ("float32", "float16", "bfloat16", "autocast-float16", "autocast-bfloat16")
NUMERICS = ("default", "strict")
TIERS = ("smoke", "core", "full")

# Images of a case: 10,000 of 224x224 take 6 GB as float32, on each side.
MOST_IMAGES = 10_000

ModelKind = Literal["directory", "architecture", "sample", "module"]
InputKind = Literal["synthetic", "noise", "photos", "images", "given"]


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    `kind` "directory": `ref` is a timm model directory (config.json + weights);
    "architecture": `ref` is a timm architecture name and its weights are discriminating random
    weights made from `seed`; "sample": `ref` names a model that a command of ours prepares;
    "module": a module or function of the user's own, which no file holds, called `ref`.

    `allow_keys` holds names of state-dict keys (fnmatch patterns are allowed) that may be
    missing, unexpected or mis-shaped; anything else fails the load.  `allow_pickle` permits
    model.bin / .pth (read with weights_only=True).
    """

    kind: ModelKind
    ref: str
    num_classes: int | None = None
    seed: int = 0
    allow_keys: tuple[str, ...] = ()
    allow_pickle: bool = False

    @property
    def name(self) -> str:
        """Short readable name, used in case ids."""
        return Path(self.ref).resolve().name if self.kind == "directory" else self.ref


@dataclasses.dataclass(frozen=True)
class InputSource:
    """Where images come from.

    `kind` "synthetic": seeded structured images that a classifier tells apart; "noise": seeded
    white noise, as published reports use it; "photos": six photos shipped with scikit-image and
    scikit-learn; "images": the file or folder at `path`; "given": a user's own, beside a module.
    """

    kind: InputKind
    path: str | None = None
    count: int = 6
    seed: int = 0

    @property
    def name(self) -> str:
        """Short readable name, used in case ids."""
        if self.kind == "images" and self.path is not None:
            return f"images-{Path(self.path).name}"
        suffix = f"-n{self.count}" if self.count != 6 else ""
        return f"{self.kind}{suffix}" + (f"-s{self.seed}" if self.seed else "")


def id_part(text: str) -> str:
    """A text as part of a case's id: letters, digits and `_.+-` alone."""
    return re.sub(r"[^\w.+-]+", "_", text)


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to be judged: model x inputs x dtype x batch x numerics profile.

    `throughput`: batch sizes to time it at when that is asked for, none to leave it out; None:
    those of the run.  It changes no result, so that it is no part of a case's identity.
    `plan`: file of a precision plan (`precision_plans.py`), None for the whole model in `dtype`.
    """

    model: ModelSource
    inputs: InputSource
    dtype: str = "float32"
    batch_size: int = 8
    numerics: str = "default"
    tier: str = "core"
    throughput: tuple[int, ...] | None = dataclasses.field(default=None, repr=False, compare=False)
    plan: str | None = dataclasses.field(default=None, repr=False)

    @property
    def id(self) -> str:
        """Readable id, stable over runs; it names everything that changes the result."""
        parts = [self.inputs.name, self.dtype, f"b{self.batch_size}", self.numerics]
        if self.plan is not None:
            parts.append(f"plan-{Path(self.plan).stem}")
        return self.prefix + "-".join(map(id_part, parts))

    @property
    def prefix(self) -> str:
        """What the ids of all cases of this model begin with."""
        parts = [self.model.name]
        if self.model.kind == "architecture" and self.model.seed:
            parts.append(f"w{self.model.seed}")
        if self.model.num_classes is not None:
            parts.append(f"c{self.model.num_classes}")
        return "".join(f"{id_part(part)}-" for part in parts)

    @property
    def fingerprint(self) -> str:
        """Hash of all fields: two cases with one id but another source differ here."""
        planned = f" plan={Path(self.plan).name!r}" if self.plan is not None else ""
        return hashlib.sha256((repr(self) + planned).encode()).hexdigest()[:16]
