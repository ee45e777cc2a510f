"""Fault plans as data: JSON, defaults, and bad input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.devices.fault_plan import KINDS, Fault, FaultPlan

whole = st.integers(0, 1000)
any_fault = st.builds(
    Fault,
    kind=st.sampled_from(KINDS),
    operator=st.sampled_from(["*", "Convolution", "Silu"]),
    first=st.integers(1, 50),
    last=st.none() | st.integers(50, 100),
    every=st.integers(1, 50),
    magnitude=st.none() | st.floats(0, 10),
    index=st.none() | whole,
    probability=st.floats(0, 1),
    seed=whole,
    bit=st.integers(0, 63),
    batch_over=whole,
    code=st.integers(1, 600000),
)


@given(st.lists(any_fault, max_size=4))
def test_json_round_trip(faults: list[Fault]) -> None:
    plan = FaultPlan(tuple(faults))
    assert FaultPlan.from_json(plan.to_json()) == plan


def test_json_has_only_what_differs() -> None:
    text = FaultPlan((Fault("scale_output", "Silu", first=3),)).to_json()
    fault = '{"kind": "scale_output", "operator": "Silu", "first": 3}'
    assert text == f'{{"schema_version": 1, "faults": [{fault}]}}'


def test_aclnn_prefix_is_dropped() -> None:
    assert Fault("zero_output", "aclnnSilu").operator == "Silu"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"kind": "melt"}, "kind"),
        ({"operator": "a b"}, "operator"),
        ({"operator": ""}, "operator"),
        ({"first": 0}, "first"),
        ({"first": 1.5}, "first"),
        ({"first": True}, "first"),
        ({"first": 5, "last": 4}, "last"),
        ({"every": 0}, "every"),
        ({"magnitude": float("nan")}, "magnitude"),
        ({"magnitude": "big"}, "magnitude"),
        ({"kind": "slow", "magnitude": -1.0}, "magnitude"),
        ({"index": -1}, "index"),
        ({"probability": 1.5}, "probability"),
        ({"seed": -1}, "seed"),
        ({"bit": 64}, "bit"),
        ({"batch_over": -1}, "batch_over"),
        ({"kind": "error_code", "code": 0}, "code"),
    ],
)
def test_bad_field_is_named(arguments: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=f"fault field '{field}' must be"):
        Fault(**{"kind": "zero_output", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "list 'faults'"),
        ('{"faults": 3}', "list 'faults'"),
        ('{"faults": [3]}', "must hold objects"),
        ('{"faults": [{"operator": "Silu"}]}', "'kind' is missing"),
        ('{"faults": [{"kind": "abort", "when": 1}]}', "'when' is unknown"),
        ('{"faults": [{"kind": "abort", "first": "x"}]}', "'first' must be"),
    ],
)
def test_bad_json(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaultPlan.from_json(text)


def test_plan_of_something_else() -> None:
    with pytest.raises(ValueError, match="'faults' must be a list of faults"):
        FaultPlan(("abort",))  # type: ignore[arg-type]
