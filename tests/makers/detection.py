"""Results of planted faults and of engines, made without either."""

import dataclasses
import math

from harness.detection.study_results import (
    EngineRow,
    EngineStudy,
    FaultResult,
    HonestRow,
    Kind,
    Operators,
    Study,
)
from harness.judgement.operator_rows import OperatorRow
from harness.records.sensitivity import FaultRow, Sensitivity
from harness.system.status import Status

OPERATORS = {"Convolution": 21, "BatchNorm": 20, "InplaceRelu": 17, "Mean": 1, "Addmm": 1}


def row(**changes) -> FaultRow:
    base = FaultRow(
        fault="weight halved", depth="early", operator="Convolution", call=3, calls=21,
        effective=True, gate_passed=True, status=Status.FAIL_ACCURACY, ratio=50.0, limit=10.0,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def counted() -> Sensitivity:
    return Sensitivity(
        means="planted in npu-emulated:0",
        emulated=True,
        clean=Status.PASS,
        clean_ratio=1.0,
        rows=(
            row(),
            row(fault="noise", status=Status.PASS, ratio=2.0),
            row(fault="nothing", effective=False, status=Status.PASS),
            row(fault="blind", status=Status.INCONCLUSIVE, gate_passed=None),
            row(fault="nan", status=Status.FAIL_NAN, gate_passed=False, ratio=None, limit=None),
        ),
        weight_error=3e-5,
        weight_place="Convolution 11 of 21",
    )


def honest(**changes) -> HonestRow:
    fields = {
        "setting": "C", "format": "strict", "what": "device", "inputs": "6 photos",
        "status": Status.PASS, "ratio": 1.2, "limit": 10.0, "gate_passed": True,
    }  # fmt: skip
    return HonestRow(**{**fields, **changes})


def small_study() -> Study:
    return Study(
        emulated=True,
        device="npu-emulated:0",
        settings={"C": "photos", "D": "structured images"},
        environment={"torch": "2.13.0"},
        seconds=61.0,
        honest=(honest(), honest(setting="D", status=Status.FAIL_ACCURACY, ratio=11.0)),
        faults=(
            FaultResult("C", "strict", "m", row()),
            FaultResult("C", "strict", "m", row(fault="faint", status=Status.PASS, ratio=2.0)),
            FaultResult("D", "strict", "m", row(effective=False)),
            FaultResult("D", "strict", "m", row(fault="nan", ratio=None, gate_passed=False)),
        ),
    )


def operator_row(**changes) -> OperatorRow:
    base = OperatorRow(
        index=7, operator="aten::erf.default", module="act", shapes=("2x3",), dtype="float32",
        memory_format="contiguous",
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def engine_study(model: str = "a", processor: str = "CPU") -> EngineStudy:
    culprit = operator_row(ratio=math.inf, worst_slice_ratio=math.inf)
    kinds = (
        Kind("aten::erf.default", 3, 1, math.inf, math.inf, 1, "no kernel"),
        Kind("aten::add.Tensor", 2, 0, None, None, 0, ""),
    )
    place = "OpenVINO 1", "strict", model
    return EngineStudy(
        processor=processor,
        date="2026-01-01",
        environment={"torch": "2.13.0"},
        seconds=60.0,
        rows=(EngineRow(*place, Status.PASS, "", 1.5, 2.0, 0.5, 10.0, True),),
        operators=(Operators(*place, kinds, (culprit,)),),
        problems=("refused",),
    )
