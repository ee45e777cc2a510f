"""What a run's folder holds of all that decides on an upgrade.

    results.jsonl        cases, by `pytest` or `python -m harness run`
    operators.jsonl      calls, by `operators run`; those of other formats in folders beside it
    fingerprint.json     by `fingerprint --output`, else what the cases' run recorded
    support.json         by `support --json`
    precheck.json        by `precheck --format json`

What is not there is None, or empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from harness.qualification import catalogue as catalogues
from harness.qualification import results
from harness.qualification.catalogue import Catalogue
from harness.qualification.results import Results
from harness.qualification.support import Support
from harness.records import fingerprint as fingerprints
from harness.records import results_file
from harness.records.fingerprint import Fingerprint
from harness.system import foreign
from harness.system.status import UsageProblem
from harness.upgrade.precheck.check import Checked

FINGERPRINT, SUPPORT, PRECHECK = "fingerprint.json", "support.json", "precheck.json"
_MADE_BY = {
    SUPPORT: "python -m harness support --json",
    PRECHECK: "python -m harness precheck --format json",
}
Kind = tuple[str, str]  # dtype and numerics profile
Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Folder:
    """A run's folder.

    `operators`: by dtype and numerics profile; `traced`: catalogues of models that the shipped ones
    lack, likewise.
    """

    path: Path
    cases: results_file.Run | None = None
    operators: Mapping[Kind, Results] = dataclasses.field(default_factory=dict)
    traced: Mapping[Kind, Catalogue] = dataclasses.field(default_factory=dict)
    fingerprint: Fingerprint | None = None
    support: tuple[Support, ...] | None = None
    precheck: tuple[Checked, ...] | None = None

    @property
    def stack(self) -> str:
        """Versions and device, as the first part that knows them says."""
        for found in self.operators.values():
            return found.run.stack
        run = self.cases.run if self.cases is not None else None
        if run is None:
            return str(self.path)
        return f"torch_npu {run.environment.get('torch_npu', 'unknown')} on {run.device}"


def read(path: Path) -> Folder:
    """Read a folder.  Raises UsageProblem for one that is not there, or a file that is damaged."""
    if not path.is_dir():
        raise UsageProblem(f"{path} is no folder: give those that --results of two runs named.")
    places = [path, *sorted(part for part in path.iterdir() if part.is_dir())]
    operators: dict[Kind, Results] = {}
    traced: dict[Kind, Catalogue] = {}
    for place in places:
        if not (place / results.FILE).is_file():
            continue
        found = results.read(place)
        kind = found.run.dtype, found.run.numerics
        if kind in operators:
            raise UsageProblem(
                f"{path} holds two qualifications in {kind[0]} ({kind[1]}), the second in {place}: "
                "keep one, or join shards with `python -m harness operators merge`."
            )
        operators[kind] = found
        if (place / catalogues.TRACED).is_file():
            traced[kind] = catalogues.read(place / catalogues.TRACED)
    cases = results_file.read_run(path) if results_file.results_file(path).is_file() else None
    measured = fingerprints.read(path / FINGERPRINT) if (path / FINGERPRINT).is_file() else None
    if measured is None and cases is not None and cases.run is not None:
        measured = cases.run.arithmetic
    return Folder(
        path=path,
        cases=cases,
        operators=operators,
        traced=traced,
        fingerprint=measured,
        support=_document(path / SUPPORT, Support),
        precheck=_document(path / PRECHECK, Checked),
    )


def _document(path: Path, kind: type[Item]) -> tuple[Item, ...] | None:
    """A list that a command printed as JSON."""
    if not path.is_file():
        return None
    adapter: Any = pydantic.TypeAdapter(tuple[kind, ...])  # type: ignore[valid-type]
    try:
        found: tuple[Item, ...] = adapter.validate_python(foreign.loads(foreign.read_bytes(path)))
    except (OSError, ValueError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        raise UsageProblem(
            f"{path} is not what `{_MADE_BY[path.name]}` prints ({said}): make it anew, or remove "
            "it."
        ) from error
    return found
