"""Commands of `python -m harness` about a device beside any model: fingerprint, first-card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system import shown

if TYPE_CHECKING:
    from harness.records.fingerprint import Fingerprint

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
    return {"fingerprint": _fingerprint}


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


def _taken(given: argparse.Namespace) -> Fingerprint:
    from harness.cases.formats import FORMATS
    from harness.devices import emulated_kernels
    from harness.devices.choice import choose
    from harness.execution.worker import DeviceWorker
    from harness.qualification import fingerprint

    spec = choose(given.device).spec
    kernels = emulated_kernels.DEFAULT
    if given.emulated_kernels is not None:
        kernels = emulated_kernels.check_for(given.emulated_kernels, spec)
    worker = DeviceWorker(spec, kernels)
    try:
        return fingerprint.take(
            worker,
            tuple(given.formats.split(",")) if given.formats else tuple(FORMATS),
            lambda text: print(f"{spec}: {text}", file=sys.stderr, flush=True),
        )
    finally:
        worker.stop()
