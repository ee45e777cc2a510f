"""A model as files on disk: what it takes to load it, here or in another process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.cases.case import ModelSource
from harness.cases.models import checkpoint, loading
from harness.cases.models.loading import LoadedModel
from harness.system import files


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """A timm model directory and how it is loaded; the options are those of `load_model`."""

    directory: Path
    num_classes: int | None = None
    allow_keys: tuple[str, ...] = ()
    allow_pickle: bool = False

    @classmethod
    def of(cls, source: ModelSource, cache_dir: Path) -> ModelFiles:
        """The files of a source, made where it has none.  Raises CaseProblem (fail_load)."""
        # Random weights are made with the wanted number of classes, which their config.json says.
        classes = None if source.kind == "architecture" else source.num_classes
        where = loading.materialise(source, cache_dir)
        return cls(where, classes, source.allow_keys, source.allow_pickle)

    @property
    def name(self) -> str:
        """Of its directory."""
        return self.directory.name

    def load(self) -> LoadedModel:
        """The model, float32 on the CPU.  Raises CaseProblem (fail_load)."""
        return loading.load_model(
            self.directory,
            num_classes=self.num_classes,
            allow_keys=self.allow_keys,
            allow_pickle=self.allow_pickle,
        )

    def key(self) -> dict[str, Any]:
        """What loading depends on, but for the versions of timm and torch, as JSON.

        The model is not built: the bytes of config.json and of the weights stand for it.  Raises
        CaseProblem or OSError when the directory is none that can be loaded.
        """
        weights = checkpoint.find_weights(self.directory, allow_pickle=self.allow_pickle)
        parts = checkpoint.parts(weights)
        return {
            "config_sha256": files.fingerprint(self.directory / "config.json"),
            "weights_file": weights.name,
            "weights_file_sha256": [files.fingerprint(part) for part in parts],
            "num_classes": self.num_classes,
            "allow_keys": list(self.allow_keys),
            "allow_pickle": self.allow_pickle,
        }
