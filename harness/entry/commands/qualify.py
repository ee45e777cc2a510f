"""Commands of `python -m harness` about a device beside any model: fingerprint, first-card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system import shown
from harness.system.status import UsageProblem

if TYPE_CHECKING:
    from harness.records.fingerprint import Fingerprint
    from harness.runs.first_card import FirstCard

Command = Callable[[argparse.Namespace], int]


def add(commands: Any) -> Mapping[str, Command]:
    """Add the commands' parsers; returns what each of them runs."""
    fingerprint = commands.add_parser(
        "fingerprint",
        help="find a device's arithmetic by crafted inputs, and hold it to what is published",
    )
    add = fingerprint.add_argument
    add("--device", default="auto", help="npu, npu-emulated, cpu or cuda (default: auto)")
    add("--emulated-kernels", default=None, metavar="NAME", help="kernels of the emulated NPU")
    add("--formats", metavar="NAMES", help="default: strict,default,float16,bfloat16")
    add("--read", type=Path, metavar="FILE", help="take none: read one that --output wrote")
    add("--against", type=Path, metavar="OLD", help="compare with an older one; another form fails")
    add("--json", action="store_true", help="print the document instead of tables")
    add("--output", type=Path, metavar="FILE", help="write the document as well")

    first_card = commands.add_parser(
        "first-card",
        help="look at everything that public sources leave open, and pack it up to send back",
    )
    add = first_card.add_argument
    add("--device", default="npu", help="npu-emulated: a rehearsal (default: npu)")
    add("--model", action="append", metavar="ARCHITECTURE", help="run these instead (repeatable)")
    add("--output", type=Path, default=Path("first-card.zip"), metavar="FILE", help="the archive, "
        "without names of hosts and users and without paths (default: %(default)s)")  # fmt: skip
    return {"fingerprint": _fingerprint, "first-card": _first_card}


def _fingerprint(given: argparse.Namespace) -> int:
    from harness.qualification import fingerprint
    from harness.records import fingerprint as records
    from harness.records import fingerprint_changes
    from harness.report import text
    from harness.report.tables import fingerprint as report

    old = records.read(given.against) if given.against is not None else None
    found = records.read(given.read) if given.read is not None else _taken(given)
    if given.output is not None:
        records.write(found, given.output)
    unpublished = fingerprint.unpublished(found)
    changed = fingerprint_changes.differences(old, found) if old is not None else []
    if given.json:
        print(shown.document(found.model_dump(mode="json")))
    else:
        blocks = [text.render_table(table) for table in report.tables(found)]
        emulated = found.emulated or (old is not None and old.emulated)
        if (table := report.differences(changed, emulated=emulated)).rows:
            blocks.append(text.render_table(table))
        said = [*report.lines(found, unpublished), report.other_bits(changed)]
        print("\n\n".join([*blocks, "\n".join(map(shown.line, filter(None, said)))]))
    return fingerprint.exit_code(unpublished, changed, found)


def _first_card(given: argparse.Namespace) -> int:
    from harness.devices.choice import choose
    from harness.qualification import fingerprint
    from harness.records import first_card as records
    from harness.report import text
    from harness.report.tables import fingerprint as traits
    from harness.report.tables import first_card as report
    from harness.runs import first_card

    choice = choose(given.device)
    if not choice.spec.kind.startswith("npu"):
        raise UsageProblem(
            f"first-card is about NPUs, not {choice.spec}: give --device npu, or npu-emulated to "
            "rehearse it."
        )
    print(choice, file=sys.stderr)

    def keep(found: FirstCard) -> None:
        records.write(given.output, found.card, found.fingerprint, found.cases)

    found = first_card.look(
        choice.spec,
        keep,
        given.model or first_card.MODELS,
        lambda said: print(f"  {said}", file=sys.stderr, flush=True),
    )
    unpublished = fingerprint.unpublished(found.fingerprint)
    blocks = [text.render_table(table) for table in traits.tables(found.fingerprint)]
    if found.cases:
        blocks.append(text.render_table(report.cases(found.cases)))
    blocks.append("\n".join(map(shown.line, report.lines(found.card, unpublished))))
    print("\n\n".join(blocks))
    print(f"\n{given.output}: send it back.{choice.spec.caveat}")
    return found.exit_code


def _taken(given: argparse.Namespace) -> Fingerprint:
    from harness.cases.formats import FORMATS
    from harness.devices import emulated_kernels
    from harness.devices.choice import choose
    from harness.execution.worker import DeviceWorker
    from harness.qualification import fingerprint

    spec = choose(given.device).spec
    worker = DeviceWorker(spec, emulated_kernels.check_for(given.emulated_kernels, spec))
    try:
        return fingerprint.take(
            worker,
            tuple(given.formats.split(",")) if given.formats else tuple(FORMATS),
            lambda text: print(f"{spec}: {text}", file=sys.stderr, flush=True),
        )
    finally:
        worker.stop()
