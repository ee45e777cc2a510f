import argparse

import pytest

from harness.execution.reference.cache import SIZE_VARIABLE, size_limit
from harness.system import quantities
from harness.system.status import UsageProblem


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500MB", 5 * 10**8), ("1.5 GB", 15 * 10**8), ("2k", 2000)]
)
def test_sizes(text, size, monkeypatch):
    assert quantities.size(text) == size
    monkeypatch.setenv(SIZE_VARIABLE, text)
    assert size_limit() == size
    assert size_limit(7) == 7


@pytest.mark.parametrize("text", ["", "GB", "-1", "10 PB", "1e3"])
def test_what_is_no_size(text, monkeypatch):
    with pytest.raises(argparse.ArgumentTypeError, match="such as 500MB"):
        quantities.size(text)
    monkeypatch.setenv(SIZE_VARIABLE, text or "x")
    with pytest.raises(UsageProblem, match=SIZE_VARIABLE):
        size_limit()
