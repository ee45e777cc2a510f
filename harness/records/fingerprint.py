"""What probes saw of a device's arithmetic, as a versioned JSON document.  No torch here."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from typing import Annotated, Literal

import pydantic

from harness.records.leg import DeviceInfo
from harness.system import documents, environment


@dataclasses.dataclass(frozen=True)
class FunctionTraits:
    """An elementary function over a fixed grid.

    `form`: the published formula that it follows, by name; `worst_ulp`: units in the last place of
    the exact result, at the argument `at`; `of_allowed`: the greatest error over what the operator
    is allowed one by one; `bits`: a digest of the results.
    """

    __pydantic_config__ = pydantic.ConfigDict(ser_json_inf_nan="strings", extra="forbid")
    form: str
    worst_ulp: float
    at: float
    of_allowed: float
    bits: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{12}$")]


class FormatTraits(pydantic.BaseModel):
    """A device's arithmetic in one format.

    `numerics`: settings as read back; `traits`: operator -> trait -> what was seen; `functions`:
    by name; `problems`: what could not be asked, in sentences.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    dtype: str
    numerics: dict[str, str] = {}
    traits: dict[str, dict[str, str]] = {}
    functions: dict[str, FunctionTraits] = {}
    problems: list[str] = []

    def with_more(self, other: FormatTraits) -> FormatTraits:
        """What two groups of probes saw in one format."""
        return FormatTraits(
            dtype=self.dtype,
            numerics={**self.numerics, **other.numerics},
            traits={
                name: {**self.traits.get(name, {}), **other.traits.get(name, {})}
                for name in {**self.traits, **other.traits}
            },
            functions={**self.functions, **other.functions},
            problems=[*self.problems, *other.problems],
        )


class Fingerprint(pydantic.BaseModel):
    """The arithmetic of a device, by format ("strict", "default", "float16", "bfloat16")."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    type: Literal["fingerprint"] = "fingerprint"
    schema_version: Literal[1] = 1
    taken: datetime.datetime
    emulated: bool
    device: DeviceInfo
    environment: dict[str, str]
    formats: dict[str, FormatTraits]

    @pydantic.field_validator("environment")
    @classmethod
    def _masked(cls, found: dict[str, str]) -> dict[str, str]:
        """No credential of whoever made the document is carried on."""
        return {name: environment.masked(value) for name, value in found.items()}

    def traits(self) -> Iterator[tuple[str, str, str, str]]:
        """Format, operator, trait, value of all that was seen, numbers and digests left out."""
        for name, one in self.formats.items():
            for operator, traits in one.traits.items():
                yield from ((name, operator, trait, value) for trait, value in traits.items())
            for function, seen in one.functions.items():
                yield name, function, "form", seen.form


KIND = documents.Kind(
    Fingerprint,
    word="fingerprint",
    name="fingerprint",
    made_by="`python -m harness fingerprint --output FILE` writes one",
    anew="take the fingerprint anew",
)
text, read, write = KIND.text, KIND.read, KIND.write
