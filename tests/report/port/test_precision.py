from harness.records.lines import UsedPlan
from harness.report.port import precision
from harness.report.port.texts import Texts
from tests.makers.records import case_record

PLAN = UsedPlan(file="p.json", sha256="ab" * 32, modules=["stem", "head"], seconds=[0.2, 0.25])


def test_the_plan_stands_with_what_it_costs():
    table = precision.plan(case_record(plan=PLAN), Texts("en"))
    assert [tuple(map(str, row)) for row in table.rows] == [
        ("plan", "p.json (abababababab)"),
        ("modules in float32", "stem, head"),
        ("time of a pass with the plan / without", "1.250"),
    ]


def test_an_emulated_time_is_none():
    emulated = PLAN.model_copy(update={"emulated": True})
    table = precision.plan(case_record(plan=emulated), Texts("zh"))
    assert "未测" in str(table.rows[-1][1])


def test_a_case_without_a_plan_has_no_table():
    assert precision.plan(case_record(), Texts("en")) is None
    assert precision.plan(None, Texts("en")) is None
