"""What a case costs, known before it is run, and limits on it.

Sizes come from the stored table of timm's architectures (`architectures`); a model directory has
that of the architecture which its config.json names.  No model is built for one that the table
knows.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.cases import architectures
from harness.cases.architectures import Architecture
from harness.cases.case import Case, ModelSource
from harness.cases.models import sample
from harness.system import foreign, quantities

_BYTES = {"float16": 2, "bfloat16": 2}  # others hold float32
_GIGA = 10**9
# Of a case without any arithmetic to speak of: models are loaded, legs compared, reports written.
_FIXED_GMACS = 2.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that a case may cost; None: no limit.

    `parameters`: numbers; `macs`: multiply-accumulates of one image; `memory`: bytes, of all
    weights and the largest operator's tensors in the case's dtype and batch.
    """

    parameters: int | None = None
    macs: int | None = None
    memory: int | None = None

    def __str__(self) -> str:
        given = (
            ("--max-params", self.parameters),
            ("--max-macs", self.macs),
            ("--max-memory", self.memory),
        )
        return ", ".join(f"{name} {show(value)}" for name, value in given if value is not None)

    def allow(self, case: Case) -> bool:
        """Whether a case stays within; one whose size is not known does not."""
        found = of(case.model)
        values = (
            (self.parameters, found.parameters if found else None),
            (self.macs, found.macs if found else None),
            (self.memory, memory(case)),
        )
        return all(
            limit is None or (value is not None and value <= limit) for limit, value in values
        )


def apply(cases: Sequence[Case], limits: Limits) -> list[Case]:
    """The cases within the limits, in their order."""
    return [case for case in cases if limits.allow(case)] if limits != Limits() else list(cases)


def of(model: ModelSource) -> Architecture | None:
    """The size of a model's architecture; None when it is not known."""
    name = architecture(model)
    return architectures.find(name) if name else None


def memory(case: Case) -> int | None:
    """Bytes that the case needs on its device at least; None when not known."""
    found = of(case.model)
    batch = min(case.batch_size, case.inputs.count)
    return found.memory_bytes(batch, _BYTES.get(case.dtype, 4)) if found else None


def gmacs(case: Case) -> float | None:
    """1e9 multiply-accumulates of one pass over the case's images; None when not known.

    A folder of images is taken as one of six.
    """
    found = of(case.model)
    if found is None or found.macs is None:
        return None
    return found.macs * case.inputs.count / _GIGA


def weights(cases: Sequence[Case]) -> dict[str, float]:
    """What cases cost relative to each other, by id, where it is stored: the same on every host.

    Cases that the table does not know are left out, not measured: another timm would say otherwise.
    """
    stored = architectures.table()[1]
    known = [case for case in cases if (architecture(case.model) or "").split(".")[0] in stored]
    costs = ((case.id, gmacs(case)) for case in known)
    return {name: cost + _FIXED_GMACS for name, cost in costs if cost is not None}


def count(text: str) -> int:
    """A number such as 30M, 4.5G or 1200; raises argparse.ArgumentTypeError."""
    if text.strip().upper().endswith("B"):  # a size in bytes
        raise argparse.ArgumentTypeError(f"{text!r} is not a number: give one such as 30M or 4.5G")
    try:
        return quantities.size(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number: give one such as 30M or 4.5G"
        ) from None


def show(value: float | None, unit: str = "") -> str:
    """A number with three digits and k, M, G or T; "?" for None."""
    if value is None:
        return "?"
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def architecture(model: ModelSource) -> str | None:
    """The name of a model's architecture; None where it says none."""
    if model.kind == "architecture":
        return model.ref
    if model.kind == "sample":
        return sample.ARCHITECTURE
    if model.kind == "module":
        return None
    try:
        config = foreign.loads(foreign.read_text(Path(model.ref) / "config.json"))
        name = config.get("architecture")
    except (OSError, ValueError, AttributeError):
        return None  # loading it says why
    return name if isinstance(name, str) else None
