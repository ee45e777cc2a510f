"""The calls of a new run beside an old one and what is expected of them.

Every call is expected to pass, so that rows are of those alone that do not: TOML files of the form
of `expected_file`, `<directory>/<device kind>/operators-<dtype>-<numerics>.toml`, by call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from harness.qualification import catalogue as catalogues
from harness.qualification import certificate
from harness.qualification.catalogue import Catalogue
from harness.qualification.certificate import Certificate
from harness.qualification.grouping import Group, grouped
from harness.qualification.outcomes import Outcome
from harness.qualification.results import Results, Run
from harness.records.expectation import ExpectedRow
from harness.system.status import ExitCode, Status, UsageProblem, worst_exit_code
from harness.upgrade import expected_file
from harness.upgrade.expected import Update
from harness.upgrade.folder import Folder, Kind


@dataclasses.dataclass(frozen=True)
class Calls:
    """The calls of one format and profile.

    `failing`: groups that no row expects; `known`: those that rows expect, `rows`: these by call;
    `better`: calls that pass in spite of a row.  `apart`: why bits were not compared, "" where they
    were, or there is no old run.
    """

    certificate: Certificate
    results: Results
    catalogue: Catalogue
    failing: tuple[Group, ...]
    known: tuple[Group, ...]
    rows: Mapping[str, ExpectedRow]
    better: tuple[str, ...]
    apart: str
    code: ExitCode

    @property
    def changed(self) -> frozenset[str]:
        """Ids of the calls whose bits changed."""
        changes = self.certificate.changes or ()
        return frozenset(call for change in changes for call in change.calls)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Expected rows of calls, in `directory`; `update`: write them for what does not pass."""

    directory: Path
    update: Update | None = None


def judge(kind: Kind, old: Folder, new: Folder, rows: Rows | None, path: Path | None) -> Calls:
    """The calls of one format and profile of the new folder.

    `path`: of a catalogue that is not the shipped one.  Raises UsageProblem for a catalogue that is
    of other models, and for bad expected rows.
    """
    found = new.operators[kind]
    run = found.run
    traced = new.traced.get(kind) if path is None else None
    catalogue = traced or _shipped(run, path)
    before = old.operators.get(kind)
    apart = run.other_bits(before.run) if before is not None else ""
    made = certificate.certify(catalogue, found, None if apart else before)
    failing = {name: item for name, item in found.outcomes.items() if item.failed}
    expected = _expected(rows, run)
    if rows is not None and rows.update is not None:
        expected = _updated(rows, run, found.outcomes, expected)
    known = {
        name
        for name in failing
        if name in expected and expected[name].status is failing[name].status
    }
    better = tuple(
        name
        for name in expected
        if name in found.outcomes and found.outcomes[name].status is Status.PASS
    )
    codes = set()
    if failing.keys() - known:
        codes.add(ExitCode.FAILED)
    if any(item.status.is_error for item in found.outcomes.values()):
        codes.add(ExitCode.INFRASTRUCTURE)
    if not found.ended or run.shard or any(model.missing for model in made.models):
        codes.add(ExitCode.INCOMPLETE)
    if better:
        codes.add(ExitCode.IMPROVED)
    return Calls(
        certificate=made,
        results=found,
        catalogue=catalogue,
        failing=grouped((failing[name] for name in failing if name not in known), catalogue),
        known=grouped((failing[name] for name in known), catalogue),
        rows={name: expected[name] for name in known},
        better=better,
        apart=apart,
        code=worst_exit_code(codes),
    )


def _shipped(run: Run, path: Path | None) -> Catalogue:
    """The part of a catalogue that a run was asked for."""
    whole = catalogues.for_installed(path, run.dtype)
    unknown = [name for name in run.models if name not in whole.models]
    if unknown:
        raise UsageProblem(
            f"The catalogue has no model {unknown[0]!r}, which the run was asked for: give the "
            "--catalogue of that run."
        )
    return whole.part(run.models)


def _profile(run: Run) -> str:
    """What the file of a run's expected calls is called, beside those of the cases."""
    return f"operators-{run.dtype}-{run.numerics}"


def _expected(rows: Rows | None, run: Run) -> dict[str, ExpectedRow]:
    """Rows by call.  Raises UsageProblem for a directory that is not there, or a bad file."""
    if rows is None:
        return {}
    if not rows.directory.is_dir() and rows.update is None:
        raise UsageProblem(
            f"--expected {rows.directory} is no directory: give the one that holds <device "
            f"kind>/{_profile(run)}.toml, or add --update-expected to make it."
        )
    path = expected_file.path_of(rows.directory, run.kind, _profile(run))
    if not path.exists():
        return {}
    found = expected_file.read(path, run.kind, _profile(run), kernels=run.kernels or None)
    for name, row in found.items():
        if row.status.is_pass:
            raise UsageProblem(
                f"Expected results {path}: call {name} is expected to pass, as every call is: "
                "remove the row."
            )
    return found


def _updated(
    rows: Rows, run: Run, outcomes: Mapping[str, Outcome], expected: Mapping[str, ExpectedRow]
) -> dict[str, ExpectedRow]:
    """Write the rows of all calls that do not pass, and take out those of calls that do."""
    assert rows.update is not None
    reason, link = rows.update.reason.strip(), rows.update.link.strip()
    added = {}
    for name, item in outcomes.items():
        was = expected.get(name)
        if item.failed and (was is None or was.status is not item.status):
            if not (reason and link):
                raise UsageProblem(
                    "Not written: rows of calls that fail need --expected-reason and "
                    "--expected-link, an address that explains them."
                )
            ratio = item.worst_ratio
            added[name] = ExpectedRow(
                status=item.status,
                budget_ratio=None if ratio is None else float(f"{ratio:.3g}"),
                reason=reason,
                link=link,
            )
    gone = [n for n in expected if n in outcomes and outcomes[n].status is Status.PASS]
    path = expected_file.path_of(rows.directory, run.kind, _profile(run))
    if added or gone:
        expected_file.write(
            path, run.kind, _profile(run), added, kernels=run.kernels or None, gone=gone
        )
    return {**{n: row for n, row in expected.items() if n not in gone}, **added}
