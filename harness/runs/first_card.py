"""Everything that whoever first holds a card should look at, as one archive to send back."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.cases.case import InputSource, ModelSource
from harness.cases.formats import FORMATS, case_of
from harness.devices.spec import EMULATED_MEANS, DeviceSpec
from harness.execution.settings import RunSettings
from harness.qualification import fingerprint
from harness.records.fingerprint import Fingerprint
from harness.records.first_card import Card, CardProbe
from harness.records.lines import CaseRecord
from harness.system.status import CaseProblem, ExitCode, worst_exit_code

if TYPE_CHECKING:
    from harness.execution.worker import DeviceWorker

# Convolutions with batch norm; attention; layer norm and gelu over channels.
MODELS = ("resnet18", "vit_tiny_patch16_224", "convnext_atto")
_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class FirstCard:
    """All that was found."""

    card: Card
    fingerprint: Fingerprint
    cases: tuple[CaseRecord, ...]

    @property
    def exit_code(self) -> ExitCode:
        """12 where something could not be asked; what was seen is news, and no failure."""
        incomplete = (
            any(probe.problem for probe in self.card.probes)
            or any(one.problems for one in self.fingerprint.formats.values())
            or any(case.status.is_error for case in self.cases)
        )
        return worst_exit_code({ExitCode.INCOMPLETE} if incomplete else set())


def look(
    device: DeviceSpec,
    keep: Callable[[FirstCard], None],
    models: Sequence[str] = MODELS,
    say: Callable[[str], None] = print,
) -> FirstCard:
    """Ask every question, take the fingerprint, and run the cases; `say` hears of each step.

    `keep` is given what there is before the first case and after each: a run that is cut short
    loses the case in flight alone.

    A question that ends the device's process costs itself alone.  Raises UsageProblem when the
    device is not there.
    """
    from harness.execution import card_probes  # brings torch in
    from harness.execution.sides import Sides
    from harness.runs.runner import CaseRunner

    sides = Sides(RunSettings(device))
    try:
        found = fingerprint.take(sides.worker, say=lambda name: say(f"fingerprint: {name}"))
        probes = [answer(sides.worker, name, say) for name in card_probes.QUESTIONS]
        card = Card(
            taken=datetime.datetime.now(datetime.timezone.utc),
            emulated=device.emulated,
            means=EMULATED_MEANS if device.emulated else f"measured on {device}",
            probes=probes,
        )
        whole = FirstCard(card, found, ())
        keep(whole)
        runner = CaseRunner(sides)
        for model in models:
            for format_name in FORMATS:
                source = ModelSource("architecture", model)
                case = case_of(source, InputSource("synthetic"), format_name)
                say(case.id)
                # Pictures are of use to nobody there, and a name may be found in their letters.
                record = runner.run(case).model_copy(update={"views": []})
                whole = dataclasses.replace(whole, cases=(*whole.cases, record))
                keep(whole)
    finally:
        sides.close()
    return whole


def answer(worker: DeviceWorker, name: str, say: Callable[[str], None] = print) -> CardProbe:
    """One question and its answer, or why there is none.  Raises UsageProblem as `look`."""
    from harness.execution import card_probes

    say(name)
    try:
        return worker.ask(card_probes.CardRequest(name), _SECONDS)
    except CaseProblem as problem:
        return card_probes.unanswered(name, f"{problem.status.value}: {problem.reason}")
