"""Precision plans: which modules stay in float32 while the rest runs in a short dtype or HF32.

A plan is a JSON file that names the model's weights by their digest, so that it is applied to no
other model.  `python -m harness prescribe` writes it, a case names it (`plan = "FILE"`), and
`harness.api.apply_plan` applies it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from harness.system import documents, files, suggestions
from harness.system.messages import Said, say
from harness.system.status import UsageProblem

if TYPE_CHECKING:
    from torch import nn

_MOST_MODULES = 10_000
_Path = Annotated[str, pydantic.Field(pattern=r"^\w+(\.\w+)*$", max_length=1000)]


class PrecisionPlan(pydantic.BaseModel):
    """A plan.

    `modules`: paths as `named_modules` gives them; what lies in them is in float32 as well.
    `dtype`: of the rest; where that is float32 the rest may use HF32 and they do not.
    `model`: to show; `weights_sha256`: of the weights it was made for; `target`: what it was to
    reach; `device`, `observed`: where it was tried last, and what came out, by metric; `seconds`:
    of one pass over the images there, without the plan and with it.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    type: Literal["precision-plan"] = "precision-plan"
    schema_version: Literal[1] = 1
    model: str
    weights_sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")]
    dtype: Literal["float16", "bfloat16", "float32"]
    modules: Annotated[list[_Path], pydantic.Field(min_length=1, max_length=_MOST_MODULES)]
    target: str = ""
    device: str = ""
    emulated: bool = False
    observed: dict[str, float] = {}
    seconds: list[float] = []

    @pydantic.field_validator("modules")
    @classmethod
    def _apart(cls, modules: list[str]) -> list[str]:
        """Each once, and none inside another."""
        given = set(modules)
        for path in modules:
            parts = path.split(".")
            outer = (".".join(parts[:end]) for end in range(1, len(parts)))
            if found := next((one for one in outer if one in given), None):
                raise ValueError(f"{path} lies in {found}, which is named as well")
        if len(given) < len(modules):
            raise ValueError("a module is named twice")
        return modules

    def check(self, weights_sha256: str, modules: Iterable[str]) -> Said | None:
        """Why the plan is not for a model of these weights and modules; None where it is."""
        if weights_sha256 != self.weights_sha256:
            return say(
                "plan.other_model",
                "The plan was made for another model ({model}, weights {made_for}; these are "
                "{weights}): make one for this model with `python -m harness prescribe`.",
                model=self.model,
                made_for=self.weights_sha256[:12],
                weights=weights_sha256[:12],
            )
        known = set(modules)
        missing = next((path for path in self.modules if path not in known), None)
        if missing is None:
            return None
        near = suggestions.near(missing, known, 1)
        return say(
            "plan.no_module",
            "The plan names {module}, and the model has no such module{near}: correct it, or make "
            "a plan with `python -m harness prescribe`.",
            module=missing,
            near=say("plan.near", " (did you mean {near}?)", near=near) if near else "",
        )


def digest(plan: PrecisionPlan) -> str:
    """A sha256 of what a plan does, whatever else the file says."""
    what = "\n".join([plan.dtype, plan.weights_sha256, *sorted(plan.modules)])
    return hashlib.sha256(what.encode()).hexdigest()


KIND = documents.Kind(
    PrecisionPlan,
    word=say("plan.word", "plan"),
    name=say("plan.name", "precision plan"),
    made_by=say("plan.made_by", "`python -m harness prescribe` makes one"),
    anew=say("plan.anew", "make the plan anew"),
)
text, read, write = KIND.text, KIND.read, KIND.write


def apply_plan(model: nn.Module, plan: PrecisionPlan | str | Path) -> nn.Module:
    """Cast a model to a plan's dtype, its modules left in float32; in place, before it moves.

    `model`: float32, with the weights that the plan was made for; `plan`: or its file.  Raises
    UsageProblem, in a sentence, for a plan that cannot be read or is for another model.
    """
    import torch

    from harness.cases.models.promotion import promote

    found = plan if isinstance(plan, PrecisionPlan) else read(Path(plan))
    modules = [path for path, _ in model.named_modules() if path]
    if any(p.is_floating_point() and p.dtype != torch.float32 for p in model.parameters()):
        raise UsageProblem("The model is not in float32: apply the plan before any cast of it.")
    if wrong := found.check(files.sha256_tensors(model.state_dict()), modules):
        raise UsageProblem(wrong)
    return promote(model, getattr(torch, found.dtype), found.modules)
