import pytest

from harness.system.status import UsageProblem
from harness.upgrade import conditions
from harness.upgrade.conditions import Term


def test_terms_are_joined_by_commas():
    assert conditions.parse("budget_ratio>1.5x, speed <= .9x,error_rate>1e-2") == (
        Term("budget_ratio", ">", 1.5, True, "budget_ratio>1.5x"),
        Term("speed", "<=", 0.9, True, "speed <= .9x"),
        Term("error_rate", ">", 0.01, False, "error_rate>1e-2"),
    )


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("", 1, "expected a metric, found the end"),
        ("budget_rato>1", 1, "unknown metric 'budget_rato'; known: budget_ratio"),
        ("top1<100, sped<1", 11, "unknown metric 'sped'"),
        ("speed", 6, "expected one of > < >= <=, found the end"),
        ("speed=1", 6, "'=' does not belong here"),
        ("speed<", 7, "expected a number, as in 1.5 or 1.5x, found the end"),
        ("speed<x", 7, "expected a number, as in 1.5 or 1.5x, found 'x'"),
        ("speed<1.5y", 10, "expected a comma or the end, found 'y'"),
        ("speed<1,", 9, "expected a metric, found the end"),
        ("speed<1 top1<2", 9, "expected a comma or the end, found 'top1'"),
        ("speed<1%", 8, "'%' does not belong here"),
        ("speed<-1", 7, "'-' does not belong here"),
    ],
)
def test_a_mistake_is_pointed_at(text, column, what):
    with pytest.raises(UsageProblem) as problem:
        conditions.parse(text)
    head, line, pointer = str(problem.value).split("\n")
    assert head.startswith(f"--fail-on, column {column}: {what}")
    assert line == f"  {text}"
    assert pointer.index("^") == 2 + column - 1


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("speed<0.9x", 0.89, True),
        ("speed<0.9x", 0.9, False),
        ("speed<=0.9x", 0.9, True),
        ("budget_ratio>3", 3.0, False),
        ("budget_ratio>=3", 3.0, True),
        ("budget_ratio>3", float("nan"), True),
        ("speed<1", float("nan"), True),
    ],
)
def test_conditions(text, value, met):
    (term,) = conditions.parse(text)
    assert term.holds(value) is met
