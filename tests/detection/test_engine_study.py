import math

import pytest

from harness.cases import architectures
from harness.detection import engine_study, study_results
from harness.detection.engine_study import EnginePlan
from harness.detection.study_results import EngineStudy
from harness.system.status import UsageProblem
from tests.makers.detection import engine_study as made
from tests.makers.detection import operator_row


def test_an_unknown_format_is_a_usage_problem():
    with pytest.raises(UsageProblem, match="format 'fp8'"):
        EnginePlan(("openvino",), formats=("fp8",))


def test_the_default_models_are_of_many_families():
    families = architectures.families()
    assert len({families[name] for name in engine_study.MODELS}) >= 20


def test_calls_are_counted_by_kind_and_views_are_none():
    rows = [
        operator_row(ratio=0.5, worst_slice_ratio=2.0),
        operator_row(ratio=4.0, worst_slice_ratio=1.0),
        operator_row(ratio=math.nan, skipped="the device raised NotTaken: no"),
        operator_row(operator="aten::view.default", skipped="view"),
    ]
    (kind,) = engine_study.kinds(rows)
    assert (kind.operator, kind.compared, kind.culprits, kind.skipped) == (
        "aten::erf.default", 2, 1, 1,
    )  # fmt: skip
    assert (kind.ratio, kind.slice_ratio) == (4.0, 2.0)
    assert kind.why == "the device raised NotTaken: no"


def test_a_study_of_engines_survives_its_file_and_is_no_study_of_faults(tmp_path):
    path = tmp_path / "engines.json"
    study_results.save(made(), path)
    read = study_results.load(path, EngineStudy)
    assert read.rows == made().rows and read.accused
    assert read.operators[0].culprits[0].ratio == math.inf
    with pytest.raises(UsageProblem, match=r"engines\.json is no such study"):
        study_results.load(path, study_results.Study)


def test_parts_join_and_overlapping_ones_do_not():
    parts = [made(model="a"), made(model="b")]
    joined = study_results.join_engines(parts)
    assert [row.model for row in joined.rows] == ["a", "b"]
    with pytest.raises(UsageProblem, match="hold OpenVINO 1, strict, a"):
        study_results.join_engines([*parts, parts[0]])
    with pytest.raises(UsageProblem, match="different CPUs"):
        study_results.join_engines([parts[0], made(model="b", processor="another")])
