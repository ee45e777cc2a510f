"""The file of a qualification: what was run, then one line a call, then how it ended.

A line is appended as soon as a call is judged, so that a process that is killed costs the calls in
its hands.  Of several lines of one call the last one stands.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from harness.qualification.outcomes import Outcome
from harness.system.status import UsageProblem

FORMAT = 1
FILE = "operators.jsonl"
# What has to be the same for results to go into one file.
_SAME = (
    "format",
    "device",
    "dtype",
    "numerics",
    "read",
    "versions",
    "inputs",
    "largest",
    "variants",
    "kernels",
    "fault_plan_sha256",
)
# What has to be the same for bits to be compared.
_SAME_BITS = ("device", "dtype", "numerics", "inputs", "largest", "emulated")


@dataclasses.dataclass(frozen=True)
class Run:
    """The first line.

    `device`: name, kind and details as the device describes itself; `emulated`: whether that is no
    evidence about hardware; `read`: its settings; `versions`: of timm, torch, torch_npu and CANN;
    `inputs`: version of the inputs; `largest`: floating-point operations beyond which calls were
    cropped; `models`: that were asked for; `calls`: their distinct calls; `shard`: "2/3", or "";
    `kernels`: of an emulated device; `fault_plan`, `fault_plan_sha256`: the file whose faults were
    planted there.
    """

    device: str
    kind: str
    emulated: bool
    dtype: str
    numerics: str
    read: Mapping[str, str]
    versions: Mapping[str, str]
    inputs: int
    largest: float
    variants: bool
    models: tuple[str, ...]
    calls: int
    shard: str = ""
    kernels: str = ""
    fault_plan: str = ""
    fault_plan_sha256: str = ""
    format: int = FORMAT

    @property
    def stack(self) -> str:
        """The versions that decide, in words: torch_npu's and CANN's, else torch's."""
        names = {"torch_npu": "torch_npu", "cann": "CANN"}
        found = [f"{shown} {self.versions[name]}" for name, shown in names.items()
                 if self.versions.get(name) not in (None, "", "not installed")]  # fmt: skip
        return " / ".join(found or [f"torch {self.versions.get('torch')}"]) + f" on {self.device}"

    def differs(self, other: Run) -> str:
        """What keeps results of both out of one file; "" for nothing."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        different = [name for name in _SAME if mine[name] != theirs[name]]
        return ", ".join(f"{n} {_short(theirs[n])}, here {_short(mine[n])}" for n in different)

    def other_bits(self, before: Run) -> str:
        """Why bits of both say nothing beside each other; "" where they can be compared."""
        pairs = ((name, getattr(before, name), getattr(self, name)) for name in _SAME_BITS)
        return ", ".join(f"another {name} ({was}, here {now})" for name, was, now in pairs
                         if was != now)  # fmt: skip

    @property
    def options(self) -> str:
        """How `operators run` is asked for the same device, format and settings."""
        given = [f"--device {self.kind}", f"--dtype {self.dtype}", f"--numerics {self.numerics}"]
        given += [f"--largest {self.largest / 1e9:g}"]
        given += [f"--emulated-kernels {self.kernels}"] * bool(self.kernels)
        given += [f"--fault-plan {shlex.quote(self.fault_plan)}"] * bool(self.fault_plan)
        return " ".join(given)

    @property
    def planted(self) -> str:
        """That faults were planted, as a sentence; "" for none."""
        if not self.fault_plan:
            return ""
        return f"Faults were planted on purpose: {self.fault_plan} ({self.fault_plan_sha256[:12]})."


@dataclasses.dataclass(frozen=True)
class Results:
    """A file's content: its run, the outcome of each call by id, and whether it was ended."""

    run: Run
    outcomes: Mapping[str, Outcome]
    ended: bool


class Writer:
    """Appends to a results file."""

    def __init__(self, path: Path, run: Run, *, new: bool) -> None:
        """Raises OSError when it cannot be written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: TextIO = path.open("w" if new else "a", encoding="utf-8")
        if new:
            self._line({"type": "run", **dataclasses.asdict(run)})

    def add(self, outcome: Outcome) -> None:
        """One call."""
        self._line(outcome.plain)

    def end(self, code: int) -> None:
        """The last line, with the exit code."""
        self._line({"type": "end", "exit_code": code})
        self._stream.close()

    def close(self) -> None:
        """Without a last line: the run was cut short."""
        self._stream.close()

    def _line(self, value: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(value) + "\n")
        self._stream.flush()


def file_of(path: Path) -> Path:
    """A results file, from itself or its folder."""
    return path / FILE if path.is_dir() else path


def read(path: Path) -> Results:
    """Read a results file or its folder.  Raises UsageProblem for what is none.

    A torn last line is what a killed process leaves; one in the middle is damage.
    """
    where = file_of(path)
    try:
        lines = where.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UsageProblem(
            f"{where} cannot be read ({error.strerror or error}): give a file or folder that "
            "`python -m harness operators run --results DIR` wrote."
        ) from error
    lines, torn = lines[:-1], lines[-1]
    outcomes: dict[str, Outcome] = {}
    run: Run | None = None
    ended = False
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
            kind = found.pop("type")
            if kind == "run":
                run = Run(**{**found, "models": tuple(found["models"])})
                if run.format != FORMAT:
                    raise ValueError(f"format {run.format}")
            elif kind == "call":
                outcome = Outcome.of(found)
                outcomes[outcome.id] = outcome
            ended = kind == "end"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageProblem(
                f"{where} is damaged in line {number} ({type(error).__name__}): remove that line "
                "and go on with --resume, or run it anew."
            ) from error
    if run is None:
        raise UsageProblem(
            f"{where} holds no qualification of operators: its first line is missing."
        )
    return Results(run, outcomes, ended and not torn)


def trim(path: Path) -> None:
    """Cut off a torn last line and an end, so that more can be appended."""
    data = path.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    lines = [line for line in data.splitlines(keepends=True) if b'"type": "end"' not in line[:20]]
    path.write_bytes(b"".join(lines))


def merge(parts: Iterable[tuple[Path, Results]]) -> Results:
    """Results of several parts as one.  Raises UsageProblem where they do not belong together."""
    listed = list(parts)
    where, first = listed[0]
    outcomes: dict[str, Outcome] = {}
    for path, part in listed:
        if different := first.run.differs(part.run):
            raise UsageProblem(f"{path} does not belong to {where}: {different}.")
        outcomes |= part.outcomes
    models = tuple(sorted({name for _, part in listed for name in part.run.models}))
    run = dataclasses.replace(
        first.run, models=models, shard="", calls=max(part.run.calls for _, part in listed)
    )
    return Results(run, dict(sorted(outcomes.items())), all(part.ended for _, part in listed))


def write(results: Results, path: Path, code: int) -> None:
    """Write results anew."""
    writer = Writer(path, results.run, new=True)
    for outcome in results.outcomes.values():
        writer.add(outcome)
    writer.end(code)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
