"""What a run says of every model: how many of its calls are qualified, and what is wrong.

A call is **qualified** when it passed every check that was made; one that could not be judged is
neither qualified nor failed, and is named.  Failing calls are grouped by cause: the operator, the
status and what their arguments have in common.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.devices.spec import EMULATED_MEANS
from harness.qualification.catalogue import Catalogue
from harness.qualification.changes import Change, between
from harness.qualification.grouping import Group, grouped
from harness.qualification.outcomes import BASE, VARIANTS, Outcome
from harness.qualification.results import Results, Run
from harness.system import files
from harness.system.status import Status

NAME = "operators-certificate"
BLIND = (
    "Not seen: errors between calls (memory reuse, streams, fusion, graph mode), how rounding adds "
    "up over a model's depth, and arguments unlike those that were made: run a sample of whole "
    "models as well."
)
# `python -m benchmarks.agreement`; docs/operators.md says of what.
RATES = (
    "Measured over 60 models on the emulated NPU, with honest and with broken kernels: of 241 runs "
    "whose calls did not fail 5 failed as a whole, all of kernels that go wrong beyond four "
    "images; of 119 with a failing call 5 passed as a whole."
)


@dataclasses.dataclass(frozen=True)
class ModelCertificate:
    """A model: its distinct calls, and how many of them are qualified, failed, not judged.

    `missing`: calls that the run does not hold; `changed`: that came out otherwise than before.
    """

    name: str
    calls: int
    qualified: int
    failed: int
    unjudged: int
    missing: int
    changed: int

    @property
    def holds(self) -> bool:
        """Whether every call is qualified."""
        return self.qualified == self.calls


@dataclasses.dataclass(frozen=True)
class Certificate:
    """All that a run says.

    `changes`: by kernel family, beside the run `since`; None without one.  `checks`: how many calls
    each was made of.  `seconds`: on the device, on the host, and of variants, summed over calls.
    `derived`: the format whose calls stand in for this one's, "" where they were traced in it.
    """

    run: Run
    ended: bool
    models: tuple[ModelCertificate, ...]
    statuses: Mapping[str, int]
    failing: tuple[Group, ...]
    unjudged: tuple[Group, ...]
    checks: Mapping[str, int]
    cropped: int
    judged: int
    seconds: tuple[float, float, float]
    since: str = ""
    changes: tuple[Change, ...] | None = None
    derived: str = ""


def certify(catalogue: Catalogue, found: Results, since: Results | None = None) -> Certificate:
    """Say of every model of a catalogue what a run found."""
    changes = None if since is None else between(since, found, catalogue)
    changed = {call for change in changes or () for call in change.calls}
    models = tuple(
        _model(name, calls, found.outcomes, changed) for name, calls in catalogue.models.items()
    )
    outcomes = [item for name, item in found.outcomes.items() if name in catalogue.signatures]
    bad = [item for item in outcomes if item.failed]
    open_ = [item for item in outcomes if item.status is not Status.PASS and not item.failed]
    return Certificate(
        run=found.run,
        ended=found.ended,
        models=models,
        statuses=dict(Counter(item.status.value for item in outcomes)),
        failing=grouped(bad, catalogue),
        unjudged=grouped(open_, catalogue),
        checks=dict(Counter(check for item in outcomes for check in item.checks)),
        cropped=sum(bool(item.cropped) for item in outcomes),
        judged=sum(any(part.judged for part in item.sets.values()) for item in outcomes),
        seconds=(
            sum(item.device_seconds for item in outcomes),
            sum(item.host_seconds for item in outcomes),
            sum(item.variant_seconds for item in outcomes),
        ),
        since="" if since is None else since.run.stack,
        changes=changes,
        derived=catalogue.header.derived,
    )


def _model(
    name: str, calls: Iterable[str], outcomes: Mapping[str, Outcome], changed: set[str]
) -> ModelCertificate:
    names = list(calls)
    known = [outcomes[call] for call in names if call in outcomes]
    qualified = sum(item.status is Status.PASS for item in known)
    failed = sum(item.failed for item in known)
    return ModelCertificate(
        name=name,
        calls=len(names),
        qualified=qualified,
        failed=failed,
        unjudged=len(known) - qualified - failed,
        missing=len(names) - len(known),
        changed=sum(call in changed for call in names),
    )


def sentence(model: ModelCertificate, run: Run, since: str = "") -> str:
    """ "resnet50: 214 of 214 calls qualified on torch_npu 2.13.0 / CANN 8.5.0 on Ascend910B3"."""
    text = f"{model.name}: {model.qualified} of {model.calls} calls qualified on {run.stack}"
    more = [
        f"{count} {what}"
        for count, what in (
            (model.failed, "failed"),
            (model.unjudged, "not judged"),
            (model.missing, "not run"),
        )
        if count
    ]
    if since:
        more.append(f"{model.changed} changed since {since}")
    return ", ".join([text, *more]) + (f" ({EMULATED_MEANS})" if run.emulated else "")


def plain(made: Certificate) -> dict[str, Any]:
    """The certificate as JSON."""
    return {
        "certificate": 1,
        "emulated": made.run.emulated,
        "blind": BLIND,
        "rates": RATES,
        **dataclasses.asdict(made),
        "models": [{**dataclasses.asdict(m), "qualifies": m.holds} for m in made.models],
    }


def as_json(made: Certificate) -> str:
    """The certificate as one JSON document."""
    return json.dumps(plain(made), indent=1)


def as_text(made: Certificate) -> str:
    """The certificate to read."""
    run = made.run
    total = sum(made.statuses.values())
    passed = made.statuses.get(Status.PASS.value, 0)
    whole = sum(model.holds for model in made.models)
    lines = [
        f"{passed} of {total} distinct calls qualified in {run.dtype} ({run.numerics}) on "
        f"{run.stack}",
        f"{whole} of {len(made.models)} models have every call qualified",
    ]
    if run.emulated:
        lines.insert(0, EMULATED_MEANS)
    if run.planted:
        lines.append(run.planted)
    if not made.ended:
        lines.append("The run was cut short: go on with --resume.")
    if run.shard:
        lines.append(f"Shard {run.shard} alone: `operators merge` joins the others.")
    if made.derived:
        lines.append(
            f"The calls are those of {made.derived} in {run.dtype}: models that cast within make "
            "others, which are judged where they are named (--model) or traced."
        )
    lines += ["", "Checks made (of how many calls):"]
    known = {**BASE, **VARIANTS}
    lines += [f"  {made.checks.get(name, 0):6} {name}: {what}" for name, what in known.items()
              if made.checks.get(name) or name in BASE]  # fmt: skip
    if made.cropped:
        lines.append(f"  {made.cropped:6} cropped, as each of them says")
    device, host, variants = made.seconds
    lines.append(
        f"Seconds: {device:.1f} on the device, {host:.1f} for inputs, references and comparison"
        + (f", {variants:.1f} for variants" if variants else "")
    )
    if made.changes is not None:
        count = sum(len(change.calls) for change in made.changes)
        lines += ["", f"{count} of {total} calls changed since {made.since}; {made.judged} judged"]
        lines += [f"  {change}" for change in made.changes]
    for title, groups in (("Failing", made.failing), ("Not judged", made.unjudged)):
        if groups:
            lines += ["", f"{title}:"]
            lines += [line for group in groups for line in group.lines(run.options)]
    lines += ["", *_models(made), "", BLIND, RATES]
    return "\n".join(lines)


_MOST_MODELS = 40


def _models(made: Certificate) -> list[str]:
    """A line a model; of many only those that are not qualified."""
    shown = list(made.models)
    if len(shown) > _MOST_MODELS:
        shown = [model for model in shown if not model.holds][:_MOST_MODELS]
    lines = [sentence(model, made.run, made.since) for model in shown]
    if len(shown) < len(made.models):
        lines.append(f"({len(made.models) - len(shown)} more models in {NAME}.json)")
    return lines


def write(made: Certificate, directory: Path) -> None:
    """Write the certificate as text and as JSON."""
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".txt", as_text(made)), (".json", as_json(made))):
        with files.replacing(directory / f"{NAME}{suffix}") as part:
            part.write_text(text + "\n", encoding="utf-8")
