"""pytest options of the upgrade gate; the work is done elsewhere."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cases.case import Case
from harness.entry.arguments import run_arguments, verify
from harness.entry.pytest_plugin import options
from harness.records import fingerprint, results_file
from harness.records.fingerprint import Fingerprint
from harness.records.results_file import Run
from harness.system.status import UsageProblem
from harness.upgrade import conditions
from harness.upgrade.conditions import Term
from harness.upgrade.expected import Update
from harness.upgrade.expected_of_run import ExpectedOptions


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options of the upgrade gate."""
    add = options.adder(parser, pluginmanager, "gate", "NPU accuracy harness: upgrade gate")
    add(
        "--expected",
        type=Path,
        metavar="DIR",
        help="hold every case against the rows in DIR/<device kind>/<numerics>.toml (default: "
        "the repository's cases against cases/expected, where it has a file for the device)",
    )
    add(
        "--update-expected",
        action="store_true",
        help="write the rows of new and changed cases; those cases are skipped, never passed",
    )
    add(
        "--expected-reason",
        default="",
        metavar="TEXT",
        help="why a row may get worse; kept in the row",
    )
    add(
        "--expected-link",
        default="",
        metavar="ADDRESS",
        help="where a known failure is explained; kept in the row",
    )
    add(
        "--compare",
        type=Path,
        metavar="RUN",
        help="also compare with an older run: its results file, or the folder of it",
    )
    add(
        "--compare-fail",
        default="",
        metavar="EXPR",
        help='what fails that comparison, as in "budget_ratio>1.5x, speed<0.9x"',
    )

    add(
        "--fingerprint",
        type=Path,
        metavar="FILE",
        help="record the device's arithmetic as `python -m harness fingerprint --output FILE` "
        "found it, so that runs are compared by it too",
    )
    add(
        "--sign",
        type=Path,
        metavar="KEY",
        help="sign the records with this key file when the run ends, for `--verify` of report, "
        "compare, merge and --compare",
    )
    add(
        "--verify",
        type=Path,
        metavar="KEY",
        help="refuse the older run of --compare unless it is signed with this key file",
    )


def check(config: pytest.Config) -> None:
    """Raise UsageProblem for options that would do nothing."""
    option = functools.partial(options.get, config)
    for name, needed in (
        ("expected_reason", "update_expected"),
        ("expected_link", "update_expected"),
        ("compare_fail", "compare"),
        ("verify", "compare"),
    ):
        if option(name) and not option(needed):
            given, missing = (f"--{word.replace('_', '-')}" for word in (name, needed))
            raise UsageProblem(f"{given} belongs to {missing}: add that.")


def comparison(config: pytest.Config) -> tuple[Run | None, tuple[Term, ...]]:
    """The older run that this one is compared with, and what fails that comparison.

    Read before the run starts: it may be the very file that the run moves aside.  Raises
    UsageProblem.
    """
    path, fail_on = options.get(config, "compare"), options.get(config, "compare_fail")
    if path is not None:
        verify(options.get(config, "verify"), path)
    old = results_file.read_run(path) if path is not None else None
    return old, conditions.parse(fail_on, "--compare-fail") if fail_on else ()


def arithmetic(config: pytest.Config) -> Fingerprint | None:
    """The fingerprint that the run is to record.  Raises UsageProblem."""
    path = options.get(config, "fingerprint")
    return fingerprint.read(path) if path is not None else None


def expected_options(
    config: pytest.Config, repository: Sequence[Case] | None, home: Path
) -> ExpectedOptions:
    """What the command line says about expected results.

    `repository`: cases of the repository's case files, None when other files were given.  `home`:
    the project whose rows they are.
    """
    option = functools.partial(options.get, config)
    update = option("update_expected")
    return ExpectedOptions(
        default=home / "cases" / "expected",
        directory=option("expected"),
        repository=repository,
        update=Update(option("expected_reason"), option("expected_link")) if update else None,
        command=_command(config),
    )


def _command(config: pytest.Config) -> str:
    """How this run was started, but for the options of an update; xdist's processes know it too."""
    given = [str(arg) for arg in config.invocation_params.args if arg != "--update-expected"]
    for name in ("--expected-reason", "--expected-link"):
        if name in given:
            del given[given.index(name) : given.index(name) + 2]
        given = [arg for arg in given if not arg.startswith(f"{name}=")]
    ours = run_arguments()
    start = "pytest"
    if given[: len(ours)] == ours:
        start, given = "python -m harness run", given[len(ours) :]
    return " ".join([start, *map(shlex.quote, given)])
