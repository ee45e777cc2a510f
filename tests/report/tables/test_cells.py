import pytest

from harness.report.tables import cells
from harness.report.tables.cells import Table


def test_a_small_error_is_not_shown_as_zero():
    assert cells.fixed(3.2e-9, 6) == "3.20e-09"
    assert cells.fixed(0.0, 6) == "0.000000"
    assert cells.cosine(1 - 3e-9) == "1.000000 (1 - 3.0e-09)"
    assert cells.cosine(1.0) == cells.cosine(1 - 2e-16) == "1.000000"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_values_are_shown_as_such(value):
    assert cells.fixed(value, 4) == str(value)


def test_rows_must_fit_the_header():
    with pytest.raises(ValueError, match="does not fit"):
        Table("t", ("a", "b"), (("1",),))


def test_of_many_missing_cases_the_first_are_named():
    assert cells.first(["a", "b"]) == "a, b"
    assert cells.first([str(n) for n in range(30)], shown=2) == "0, 1 and 28 more"
