"""A module or function of the user's own, in a file: every process loads the same.

The file is read by the harness' own processes alone, which compare its hash with the one they were
told.  Torch is imported inside functions: the run's own process only asks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.models.loading import LoadedModel
from harness.cases.models.model_files import ModelFiles
from harness.cases.models.weight_account import WeightAccount
from harness.cases.samples import Samples
from harness.system import files
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclasses.dataclass(frozen=True)
class OwnModule:
    """A module in a file, as `own_files.save_module` wrote it.

    `name`: of its class or function; `search`: where the user's process looks for modules.
    """

    path: Path
    sha256: str
    name: str
    search: tuple[str, ...] = ()

    def load(self) -> LoadedModel:
        """The module, float32 on the CPU, in eval mode.  Raises CaseProblem (fail_load)."""
        sys.path.extend(place for place in self.search if place not in sys.path)
        module = _unpickled(self.path, self.sha256).float().eval().requires_grad_(False)
        state = weights(module)
        numbers = sum(parameter.numel() for parameter in module.parameters())
        return LoadedModel(
            model=module,
            data_config={},
            weights=WeightAccount(len(state), len(state)),
            weights_sha256=files.sha256_tensors(state),
            config={},
            description=f"{self.name}, {numbers / 1e6:.2f} M parameters, {len(state)} tensors",
            weights_description="a module of the user's own",
            num_classes=0,
            taps_features=False,
        )

    def key(self) -> dict[str, Any]:
        """There is none: what is imported by name may change unseen.  Raises CaseProblem."""
        said = say("own.no_key", "A module of one's own is in no cache.")
        raise CaseProblem(Status.FAIL_LOAD, Stage.LOAD, said)


@dataclasses.dataclass(frozen=True)
class OwnInputs:
    """Samples in a file, as `own_files.save_inputs` wrote them; fields as in `InputSet`."""

    path: Path
    file_sha256: str
    sha256: str
    count: int
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    description: str
    left_out: str = ""

    def load(self) -> Samples:
        """The samples on the CPU.  Raises CaseProblem (fail_load)."""
        found: Samples = _unpickled(self.path, self.file_sha256)
        return found


AnyModel = ModelFiles | OwnModule


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name, those too that a state dict leaves out."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def _unpickled(path: Path, digest: str) -> Any:
    import torch

    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{path.name} is not what was written")
        # Any object: this process' parent wrote it a moment ago.
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)  # noqa: S614
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CaseProblem(
            Status.FAIL_LOAD,
            Stage.LOAD,
            say("own.unloaded", "The module cannot be loaded in another process: {error}",
                error=said),
        ) from error  # fmt: skip
