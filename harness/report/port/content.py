"""What a port publishes of one model, from the records of a run: no rendering here.

The documented protocol is one case.  Where a run holds several of a model (dtypes, numerics,
inputs), `choose` takes the one nearest to the documented settings; it never looks at a result.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any

from harness.cases.case import ModelSource, id_part
from harness.cases.models.timm_config import RANDOM
from harness.judgement.documented import (
    DOCUMENTED_BATCH,
    DOCUMENTED_IMAGES,
    DOCUMENTED_SIZE,
    ERROR_RATE_LIMIT_PERCENT,
)
from harness.records.lines import ADAPTER, AnyRecord, CaseRecord
from harness.records.results_file import Run
from harness.report.port.sample import Sample
from harness.report.tables.missing import (
    PERCENTILE_PASSES,
    english,
    gate_missing,
    image_count,
    image_size,
    percentiles,
    speed_missing,
    speed_up_missing,
)
from harness.system import environment, shown
from harness.system.status import Status, UsageProblem, worst

# Both are synthetic; structured images first, since noise hardly tells a model's classes apart.
_INPUTS = ("synthetic", "noise", "photos", "images")


class Draft(enum.Enum):
    """Why a report is a draft and must not be published."""

    EMULATED = "emulated"  # ran on the emulator
    NO_NPU = "no_npu"  # ran on another device, or reached none
    INCOMPLETE = "incomplete"  # the run was cut short or cases of the model have no record
    RANDOM_WEIGHTS = "random_weights"  # not the weights of the model that the report names


@dataclasses.dataclass(frozen=True)
class Port:
    """One model of a run.

    `cases`: its records; `missing`: ids of its selected cases without a record; `main`: the case
    that stands for the documented protocol, None when no case has a record.
    """

    name: str
    source: ModelSource | None
    run: Run
    cases: tuple[CaseRecord, ...]
    missing: tuple[str, ...]
    main: CaseRecord | None
    sample: Sample = Sample(problem="sample.not_asked")

    @property
    def directory_name(self) -> str:
        """Its name as part of a path."""
        return id_part(self.name).strip(".") or "model"

    @property
    def emulated(self) -> bool:
        """Whether anything of it ran on the emulator."""
        emulated_run = self.run.run is not None and self.run.run.emulated
        return emulated_run or any(case.emulated for case in self.cases)

    @property
    def device_kinds(self) -> set[str]:
        """Kinds of device that the run took or was to take."""
        kinds = {case.candidate.device.kind for case in self.cases if case.candidate is not None}
        return kinds | ({self.run.run.device_kind} if self.run.run else set())

    @property
    def drafts(self) -> tuple[Draft, ...]:
        """Why this is no more than a draft; empty for a report that may be published."""
        found = []
        if self.emulated:
            found.append(Draft.EMULATED)
        elif self.device_kinds != {"npu"}:
            found.append(Draft.NO_NPU)
        if self.missing or not self.cases or self.run.end is None or self.run.torn_lines:
            found.append(Draft.INCOMPLETE)
        made = self.main is not None and self.main.weights.startswith(RANDOM)
        if made or (self.source is not None and self.source.kind == "architecture"):
            found.append(Draft.RANDOM_WEIGHTS)
        return tuple(found)

    @property
    def status(self) -> Status | None:
        """The worst status of its cases; None without any."""
        return worst(case.status for case in self.cases) if self.cases else None

    def of_model(self) -> Run:
        """The run as if it had held this model alone."""
        ids = [case.case_id for case in self.cases] + list(self.missing)
        run = self.run.run
        if run is not None:
            kept = {name: value for name, value in run.fingerprints.items() if name in ids}
            run = run.model_copy(update={"cases": ids, "fingerprints": kept})
        return self.run.model_copy(update={"run": run, "cases": list(self.cases)})


def choose(run: Run, wanted: str | None) -> Port:
    """Take one model of a run, by name, architecture or directory.

    Raises UsageProblem when it is not there, or when the run holds several and none was named.
    """
    every = dict.fromkeys(case.case.model for case in run.cases)
    sources = [source for source in every if source.kind != "module"]  # ports are of models
    names = ", ".join(dict.fromkeys(source.name for source in sources))
    found = [source for source in sources if wanted is None or _matches(source, wanted)]
    if wanted is not None and not found:
        return _unrecorded(run, wanted, names)
    if not found:
        raise UsageProblem("The run holds no case: name the model of the report with --model.")
    if len({(source.name, source.num_classes, source.seed, source.ref) for source in found}) > 1:
        raise UsageProblem(
            f"The run holds several models ({names}): name one with --model. A report is about "
            "one model with one set of weights."
            if wanted is None
            else f"--model {wanted} fits several models of the run, which differ in their "
            "directory, seed or number of classes: run them apart."
        )
    source = found[0]
    cases = tuple(case for case in run.cases if case.case.model in found)
    prefix = cases[0].case.prefix
    others = [case.case_id for case in run.cases if case not in cases]
    missing = tuple(name for name in run.missing if name.startswith(prefix) and name not in others)
    return Port(source.name, source, run, cases, missing, min(cases, key=_distance))


def documented_differences(case: CaseRecord) -> tuple[tuple[str, str, str], ...]:
    """Name, documented and own value of every setting that is not the documented one."""
    own = case.case
    wanted = {
        "inputs": ("synthetic", "synthetic" if own.inputs.kind == "noise" else own.inputs.kind),
        "images": (str(DOCUMENTED_IMAGES), str(image_count(case))),
        "size": (DOCUMENTED_SIZE, image_size(case) or DOCUMENTED_SIZE),  # unknown: not prepared
        "batch_size": (str(DOCUMENTED_BATCH), str(own.batch_size)),
        "dtype": ("float32", own.dtype),
        "numerics": ("default", own.numerics),
    }
    return tuple((name, *pair) for name, pair in wanted.items() if pair[0] != pair[1])


def accuracy_document(port: Port) -> dict[str, Any]:
    """Content of results/accuracy.json: the documented metrics, or why they are missing."""
    main = port.main
    dumped = _dumped(main)
    why = english(gate_missing(main), main)
    features = dumped.get("outputs") if main is not None and main.gate is None else None
    return {
        **_head(port, "accuracy"),
        "features": [
            {key: value for key, value in output.items() if key != "sample"}
            for output in features or []
        ],
        "error_rate_limit_percent": ERROR_RATE_LIMIT_PERCENT,
        "documented_gate": dumped.get("gate"),
        "missing": {} if why is None else {"documented_gate": why},
        **{key: dumped.get(key) for key in ("arithmetic", "budgets", "discrimination", "notes")},
        "cases": [
            {
                key: list(map(str, case.findings)) if key == "findings" else value
                for key, value in _dumped(case).items()
                if key in ("case_id", "status", "reason", "findings", "emulated", "gate")
            }
            for case in port.cases
        ],
    }


def performance_document(port: Port) -> dict[str, Any]:
    """Content of results/performance.json: both sides' timings, or why they are missing."""
    main, why = port.main, english(speed_missing(port.main), port.main)
    no_ratio = english(speed_up_missing(main), main)
    found: dict[str, Any] = {
        "device_images_per_second": None,
        "cpu_images_per_second": None,
        "speed_up": None,
    }
    missing = {} if why is None else {"device_images_per_second": why}
    missing |= {} if no_ratio is None else {"speed_up": no_ratio}
    if main is not None and main.reference is not None and main.reference.timing.forward_seconds:
        found["cpu_images_per_second"] = main.reference.timing.images_per_second
    else:
        missing["cpu_images_per_second"] = why or "no forward pass was timed"
    if main is not None and main.candidate is not None and why is None:
        found["device_images_per_second"] = main.candidate.timing.images_per_second
        found["speed_up"] = main.speed_ratio
        found["device_pass_seconds"] = percentiles(main.candidate.timing)
        if found["device_pass_seconds"] is None:
            missing["device_pass_seconds"] = f"fewer than {PERCENTILE_PASSES} timed passes"
    dumped = _dumped(main)
    sides = {"cpu": dumped.get("reference"), "device": dumped.get("candidate")}
    for side, leg in sides.items():
        timed = leg is not None and not (side == "device" and port.emulated)
        found[f"{side}_timing"] = leg["timing"] if leg is not None and timed else None
    found["throughput"] = None if port.emulated else _without_samples(dumped.get("throughput"))
    if found["throughput"] is None:
        missing["throughput"] = why or "not measured: --throughput was not given"
    return {**_head(port, "performance"), **found, "missing": missing}


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write strict JSON; numbers that are none were turned into strings by the records."""
    path.write_text(shown.document(document) + "\n", encoding="utf-8")


def _head(port: Port, kind: str) -> dict[str, Any]:
    main, run = port.main, port.of_model().run
    return {
        "kind": kind,
        "publishable": not port.drafts,
        "draft_reasons": [draft.value for draft in port.drafts],
        "emulated": port.emulated,
        "model": {
            "name": port.name,
            "weights": main.weights if main else None,
            "weights_sha256": main.weights_sha256 if main else None,
        },
        "run": json.loads(run.model_dump_json()) if run is not None else None,
        "case_id": main.case_id if main else None,
        "case": _dumped(main).get("case"),
        "inputs": main.inputs if main else None,
        "inputs_sha256": main.inputs_sha256 if main else None,
        "documented_protocol": main is not None and not documented_differences(main),
        "differences": [
            {"setting": name, "documented": wanted, "here": own}
            for name, wanted, own in (documented_differences(main) if main else ())
        ],
        "device": (_dumped(main).get("candidate") or {}).get("device"),
        "numerics": (_dumped(main).get("candidate") or {}).get("numerics"),
        "status": main.status.value if main else None,
        "reason": main.reason if main else None,
        "missing_cases": list(port.missing),
    }


def public(value: Any) -> Any:
    """JSON as it may be published: folders by their names, no credential, homes as `~`."""
    if isinstance(value, str):
        return environment.redacted(value)
    if isinstance(value, list):
        return [public(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {"directory": "ref", "images": "path"}.get(str(value.get("kind")))
    return {
        key: Path(item).name if key == named and isinstance(item, str) else public(item)
        for key, item in value.items()
    }


def public_run(run: Run) -> Run:
    """A run as it may be published."""

    def made(record: AnyRecord) -> AnyRecord:
        return ADAPTER.validate_python(public(json.loads(record.model_dump_json())))

    head = made(run.run) if run.run is not None else None
    return run.model_copy(update={"run": head, "cases": [made(case) for case in run.cases]})


def _dumped(case: CaseRecord | None) -> dict[str, Any]:
    # Through JSON text: it is what turns NaN into a string, as in the records.
    return {} if case is None else dict(json.loads(case.model_dump_json()))


def _without_samples(throughput: dict[str, Any] | None) -> dict[str, Any] | None:
    """A throughput measurement without the times of single calls, which the records keep."""
    if throughput is None:
        return None
    rows = [
        {
            side: {key: item for key, item in value.items() if key != "seconds"}
            if isinstance(value, dict)
            else value
            for side, value in row.items()
        }
        for row in throughput["rows"]
    ]
    return {**throughput, "rows": rows}


def _unrecorded(run: Run, wanted: str, names: str) -> Port:
    """A model of which the run has no record, if the run can have meant to run it."""
    name = Path(wanted).name or wanted
    prefix = f"{id_part(name)}-"
    missing = tuple(case for case in run.missing if case.startswith(prefix))
    if run.cases and not missing:
        raise UsageProblem(f"The run holds no case of {wanted}: its models are {names}.")
    return Port(name, None, run, (), missing, None)


def _matches(source: ModelSource, wanted: str) -> bool:
    if wanted in (source.name, source.ref):
        return True
    # Also a directory that stood elsewhere when the run was made.
    return source.kind == "directory" and Path(wanted).resolve().name == source.name


def _distance(case: CaseRecord) -> tuple[object, ...]:
    own = case.case
    return (
        own.dtype != "float32",
        own.numerics != "default",
        _INPUTS.index(own.inputs.kind),
        image_count(case) != DOCUMENTED_IMAGES,
        own.batch_size != DOCUMENTED_BATCH,
        own.inputs.seed,
        case.case_id,
    )
