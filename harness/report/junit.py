"""JUnit: properties of a case, for a reader without the records; whole files of other answers."""

from __future__ import annotations

import contextlib
import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Mapping, Sequence

from harness.judgement.localization import Localization
from harness.records.lines import CaseRecord
from harness.report.tables import failures
from harness.system import shown

# Name -> meaning; a property is absent where it was not measured.
PROPERTIES = {
    "case": "id of the case; the name of the test writes what is not ASCII as escapes",
    "status": "status of the case",
    "emulated": "true where the device was emulated: no evidence about NPU hardware",
    "device": "name of the device that was compared with the CPU",
    "stage": "where a case that did not pass ended",
    "expected": "outcome of the comparison with the expected row",
    "mean_cosine_similarity": "protocol's gate: mean cosine of the softmax probabilities",
    "mae": "protocol's gate: mean absolute error of the softmax probabilities",
    "error_rate_percent": "protocol's gate: (1 - mean cosine) x 100",
    "top1_agreement": "protocol's gate: images with the same Top-1 / images",
    "budget_ratio": "greatest error against float64, in units of the declared arithmetic's",
    "culprit": "operator and module whose own error no rounding explains, or `none`; only where "
    "one was looked for",
    "reason": "why the case is not as it should be, in a line; absent where it is",
    "speed_up": "throughput of the device over the CPU's; never of an emulated device",
    "fair_speed_up": "the same with the CPU at its best setting, where `--throughput` measured it",
    "fair_speed_up_low": "lower end of its 95 % interval",
    "fair_speed_up_high": "upper end of its 95 % interval",
    "device_peak_memory_bytes": "greatest memory allocated for tensors on the device",
    "host_peak_memory_bytes": "greatest resident set of the device's process",
}


@dataclasses.dataclass(frozen=True)
class Test:
    """One test: passed, unless there is why not; `skipped`: why it says nothing."""

    name: str
    failure: str = ""
    error: str = ""  # of the infrastructure
    skipped: str = ""


def document(suites: Mapping[str, Sequence[Test]]) -> str:
    """A file of suites by name."""
    root = ElementTree.Element("testsuites")
    for name, tests in suites.items():
        counts = {"tests": str(len(tests))}
        for attribute, kind in (("failures", "failure"), ("errors", "error")):
            counts[attribute] = str(sum(bool(getattr(test, kind)) for test in tests))
        counts["skipped"] = str(sum(bool(test.skipped) for test in tests))
        suite = ElementTree.SubElement(root, "testsuite", {"name": shown.line(name), **counts})
        for test in tests:
            element = ElementTree.SubElement(
                suite, "testcase", classname=shown.line(name), name=shown.line(test.name)
            )
            for kind in ("failure", "error", "skipped"):
                if said := getattr(test, kind):
                    ElementTree.SubElement(element, kind, message=shown.line(said))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def properties(record: CaseRecord) -> list[tuple[str, object]]:
    """The properties of one case, those of `PROPERTIES` that were measured, in that order."""
    gate, ratio, speed = record.gate, record.budget_ratio, record.speed_ratio
    fair, used = record.fair_speed_up, record.candidate.memory if record.candidate else None
    place = record.localization
    found: dict[str, object] = {
        "case": record.case_id,
        "status": record.status.value,
        "emulated": str(record.emulated).lower(),
        "device": record.candidate.device.name if record.candidate else None,
        "stage": record.stage.value if record.stage else None,
        "expected": record.expected.outcome.value if record.expected else None,
        "mean_cosine_similarity": repr(gate.mean_cosine) if gate else None,
        "mae": repr(gate.mae) if gate else None,
        "error_rate_percent": repr(gate.error_rate_percent) if gate else None,
        "top1_agreement": f"{gate.top1_matches}/{gate.images}" if gate else None,
        "budget_ratio": None if ratio is None else repr(ratio),
        "culprit": _culprit(place) if place and place.rows else None,
        "reason": failures.because(record) or None,
        "speed_up": None if speed is None else repr(speed),
        "fair_speed_up": repr(fair.value) if fair else None,
        "fair_speed_up_low": repr(fair.low) if fair else None,
        "fair_speed_up_high": repr(fair.high) if fair else None,
        "device_peak_memory_bytes": str(used.device_peak) if used and used.device_peak else None,
        "host_peak_memory_bytes": str(used.host_peak) if used and used.host_peak else None,
    }
    # Plain text: it goes to another process as xdist sends it.
    texts = {k: str(shown.line(v)) for k, v in found.items() if isinstance(v, str)}
    return [(name, texts[name]) for name in PROPERTIES if name in texts]


def _culprit(found: Localization) -> str:
    worst = next(iter(found.culprits), None)
    return f"{worst.operator} in {worst.module}" if worst is not None else "none"


def case_id(node_id: str, known: Collection[str]) -> str | None:
    """The case, of those known, that a test's node id names; None for other tests.

    pytest writes other than ASCII as escapes; plugins that repeat tests add words of their own.
    """
    inner = node_id.partition("[")[2].removesuffix("]")
    with contextlib.suppress(UnicodeDecodeError):
        inner = inner.encode("latin-1", "backslashreplace").decode("unicode_escape")
    if inner in known:
        return inner
    found = [one for one in known if inner.startswith(f"{one}-") or inner.endswith(f"-{one}")]
    return max(found, key=len, default=None)
