"""The first release that fails, for every place where it may be."""

from __future__ import annotations

import pytest

from harness.report.tables import precheck as report
from harness.system.status import ExitCode
from harness.upgrade.precheck import bisect, stacks
from harness.upgrade.precheck.check import Checked, Model
from harness.upgrade.precheck.probe import REQUIRED

RELEASES = [str(number) for number in range(1, 10)]


def attempt(first_bad: int, unavailable: tuple[int, ...] = ()):
    """A world in which releases from `first_bad` on compute something else."""
    asked: list[str] = []

    def ask(text: str) -> Checked:
        asked.append(text)
        if float(text) in unavailable:
            return Checked(text, unavailable="no wheel")
        problem = {"problem": "it is wrong"} if float(text) >= first_bad else {}
        attributes = dict.fromkeys(REQUIRED, "present")
        models = {"resnet18": Model(agrees=True)}
        return Checked(text, attributes=attributes, models=models, **problem)

    return ask, asked


@pytest.mark.parametrize("first_bad", range(2, 10))
def test_it_finds_the_first(first_bad):
    ask, asked = attempt(first_bad)
    found = bisect.halve(RELEASES, ask)
    start = f"{first_bad} is the first that fails; {first_bad - 1} is right: it does not load"
    assert found.sentence.startswith(start)
    assert found.code is ExitCode.FAILED
    assert len(asked) == len(set(asked)) <= 6
    assert "EMULATED" in report.bisection(found) and "1: right" in report.bisection(found)


@pytest.mark.parametrize(
    ("first_bad", "unavailable", "said", "code"),
    [
        (1, (), "1 fails already", ExitCode.INCOMPLETE),
        (99, (), "9 is right: there is nothing to find", ExitCode.OK),
        (5, (9,), "9 could not be tried: no wheel", ExitCode.INCOMPLETE),
        (5, (4, 5), "6 is the first that fails; 3 is right (between them 4, 5 could not",
         ExitCode.FAILED),
        (5, (3, 7), "5 is the first that fails; 4 is right: ", ExitCode.FAILED),
    ],
)  # fmt: skip
def test_what_it_says_otherwise(first_bad, unavailable, said, code):
    found = bisect.halve(RELEASES, attempt(first_bad, unavailable)[0])
    assert found.sentence.startswith(said)
    assert found.code is code


def test_only_releases_between_are_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(
        stacks, "published", lambda say: [stacks.version(text) for text in RELEASES]
    )
    ask, asked = attempt(5)
    monkeypatch.setattr(bisect, "check", lambda text, *_: ask(text))
    found = bisect.bisect("3", "6.0", ["resnet18"], tmp_path, lambda line: None)
    assert found.sentence.startswith("5 is the first")
    assert set(asked) <= {"3", "4", "5", "6.0"}
