"""The verdict on an emulated NPU with other kernels: honest ones must pass, broken ones must not.

    python -m benchmarks.kernels --output reports/kernels.jsonl [--models test_vit,test_resnet]
        [--formats strict,default,float16,bfloat16] [--usual]
        [--kernels honest,broken,cann+broken,NAME,...]

Every run is a case with `--localize always --operator-share 1`; `--usual`: with neither.  A broken
kernel is effective where any bit of the outputs is another than without its mistake, an honest one
where it is another than with ATen's kernels; caught is what fails the case.  Rows are appended to
the output, one JSON object a line; those that it has are not measured again, so that a study can be
cut short and go on.  All of it is EMULATED.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import harness  # noqa: F401  (before torch)
from benchmarks import measured
from harness.cases.case import Case, InputSource, ModelSource
from harness.cases.formats import FORMATS, case_of
from harness.detection.sensitivity import same
from harness.devices import emulated_kernels
from harness.devices.broken_kernels import BROKEN
from harness.devices.choice import choose
from harness.devices.npu import TakeKernels
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.judgement import operator_rows
from harness.judgement.metrics import Array
from harness.judgement.operator_rows import OperatorRow
from harness.records.lines import CaseRecord
from harness.runs.runner import CaseRunner
from harness.system.status import CaseProblem, Status, UsageProblem

MODELS = ("test_vit", "test_resnet", "test_efficientnet", "test_convnext")
CLASSES = 50
_BROKEN = [emulated_kernels.BROKEN_PREFIX + name for name in BROKEN]
# What the names "honest", "broken" and "cann+broken" stand for.
_GROUPS = {
    "honest": [emulated_kernels.CANN, *emulated_kernels.HONEST],
    "broken": _BROKEN,
    f"{emulated_kernels.CANN}+broken": [f"{emulated_kernels.CANN}+{name}" for name in _BROKEN],
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One case with one set of kernels.

    `effective`: whether any bit of the outputs differs from those of the kernels without the
    mistake, of honest ones from ATen's; of broken ones the others are measured only then.  `ratio`:
    the greatest budget ratio; `operator_ratio`, `slice_ratio`: the greatest over the operators of
    the localisation; None where there are none.  `culprits`: as the localisation names them, the
    worst first, "aten::mean.dim in head".  `right`: whether the first is an operator of the broken
    kernel; None without a culprit or where none is broken.
    """

    model: str
    format: str
    kernels: str
    effective: bool
    status: str = ""
    ratio: float | None = None
    operator_ratio: float | None = None
    slice_ratio: float | None = None
    culprits: tuple[str, ...] = ()
    right: bool | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        """What no two rows of a study have in common."""
        return self.model, self.format, self.kernels

    @property
    def broken(self) -> bool:
        """Whether the kernels are wrong."""
        return emulated_kernels.BROKEN_PREFIX in self.kernels

    @property
    def failed(self) -> bool:
        """Whether the case failed: trouble of the harness or a pass in doubt is none."""
        return self.status.startswith("fail") or self.status == Status.FLAKY.value


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 when no honest kernels failed or were accused, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=_names, default=MODELS, metavar="A,B,...")
    parser.add_argument("--formats", type=_names, default=tuple(FORMATS), metavar="A,B,...")
    parser.add_argument("--kernels", type=_names, default=("honest", "broken"), metavar="A,B,...")
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--usual", action="store_true", help="compare and localise as any run does")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    given = parser.parse_args(arguments)
    spec = choose("npu-emulated").spec
    kernels = chosen(given.kernels)
    rows = read(given.output)
    sides = Sides(
        RunSettings(spec)
        if given.usual
        else RunSettings(spec, localize="always", operator_share=1.0)
    )
    try:
        for model in given.models:
            for format_name in given.formats:
                case = _case(model, format_name, given.classes, given.seed)
                left = [name for name in kernels if (model, format_name, name) not in rows]
                for row in _measure(sides, case, model, format_name, left):
                    rows[row.key] = row
                    with given.output.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(dataclasses.asdict(row)) + "\n")
                    print(_line(row), file=sys.stderr, flush=True)
    finally:
        sides.close()
    wanted = [row for row in rows.values() if row.kernels in kernels]
    text = summary(wanted)
    given.output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return int(any(not row.broken and (row.failed or row.culprits) for row in wanted))


def chosen(names: Sequence[str]) -> list[str]:
    """Names of kernels from those of groups and single names; raises UsageProblem."""
    found = [name for given in names for name in _GROUPS.get(given, [given])]
    for name in found:
        emulated_kernels.check_for(name, DeviceSpec("npu-emulated"))
    return list(dict.fromkeys(found))


def read(path: Path) -> dict[tuple[str, str, str], Row]:
    """The rows that a file has, by key; none where there is no file."""
    if not path.exists():
        return {}
    rows = [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row.key: dataclasses.replace(row, culprits=tuple(row.culprits)) for row in rows}


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _case(model: str, format_name: str, classes: int, seed: int) -> Case:
    source = ModelSource("architecture", model, num_classes=classes, seed=seed)
    return case_of(source, InputSource("synthetic", seed=seed), format_name)


def _take(sides: Sides, name: str) -> None:
    # For a process that replaces this one.
    sides.worker.opening = dataclasses.replace(sides.worker.opening, kernels=name)
    sides.ask(TakeKernels(name))


def _outputs(sides: Sides, case: Case) -> dict[str, Array]:
    """What one forward pass on the device gives; raises CaseProblem."""
    request = dataclasses.replace(
        sides.request(case), repeat=0, batch_checks=False, operator_share=0.0
    )
    return sides.ask(request).outputs


def _measure(
    sides: Sides, case: Case, model: str, format_name: str, kernels: Sequence[str]
) -> Iterator[Row]:
    if not kernels:
        return
    plain: dict[str, dict[str, Array]] = {}
    for name in kernels:
        started = time.perf_counter()
        own, mistake = emulated_kernels.parts(name)
        right = own if mistake else emulated_kernels.ATEN
        if right not in plain:
            _take(sides, right)
            plain[right] = _outputs(sides, case)
        _take(sides, name)
        try:
            effective = not same(plain[right], _outputs(sides, case))
        except CaseProblem:
            effective = True
        row = Row(model, format_name, name, effective)
        if effective or not row.broken:
            row = _judged(row, CaseRunner(sides).run(case))
        yield dataclasses.replace(row, seconds=round(time.perf_counter() - started, 1))


def _judged(row: Row, record: CaseRecord) -> Row:
    found = record.localization
    compared = operator_rows.compared(found.rows) if found is not None else []
    accused = list(found.culprits if found is not None else [])
    if not accused and record.operators is not None and record.operators.culprits:
        accused = list(record.operators.worst[: record.operators.culprits])
    right = None
    if accused and row.broken:
        mistake = emulated_kernels.parts(row.kernels)[1]
        right = BROKEN[mistake].gives(accused[0].operator)
    return dataclasses.replace(
        row,
        status=record.status.value,
        ratio=record.budget_ratio,
        operator_ratio=max((one.ratio for one in compared), default=None),
        slice_ratio=max((one.worst_slice_ratio for one in compared), default=None),
        culprits=tuple(map(_place, accused)),
        right=right,
        reason=record.reason,
    )


def _place(row: OperatorRow) -> str:
    return f"{row.operator} in {row.module}"


def _line(row: Row) -> str:
    cells = [row.model, row.format, row.kernels, row.status or "no effect", f"{row.seconds:.0f} s"]
    return " ".join([*cells, *row.culprits[:1]])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _greatest(values: Sequence[float | None]) -> str:
    return _number(max((value for value in values if value is not None), default=None))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def summary(rows: Sequence[Row]) -> str:
    """The study as Markdown."""
    return "\n\n".join(
        [*_honest([row for row in rows if not row.broken]),
         *_broken([row for row in rows if row.broken])]
    ) + "\n"  # fmt: skip


def _honest(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    header = ("kernels", "format", "runs", "not passed", "accused", "ratio", "operator", "slice")
    cells = []
    for kernels, format_name in dict.fromkeys((row.kernels, row.format) for row in rows):
        some = [row for row in rows if (row.kernels, row.format) == (kernels, format_name)]
        cells.append(
            (
                kernels,
                format_name,
                str(len(some)),
                str(sum(row.status != Status.PASS.value for row in some)),
                str(sum(bool(row.culprits) for row in some)),
                _greatest([row.ratio for row in some]),
                _greatest([row.operator_ratio for row in some]),
                _greatest([row.slice_ratio for row in some]),
            )
        )
    yield f"**Honest kernels [EMULATED]**\n\n{measured.table(header, cells)}"
    accused = [
        (row.model, row.format, row.kernels, row.status, "; ".join(row.culprits[:3]))
        for row in rows
        if row.culprits or row.failed
    ]
    if accused:
        header = ("model", "format", "kernels", "status", "culprits")
        yield f"**Honest kernels accused [EMULATED]**\n\n{measured.table(header, accused)}"


def _own(row: Row) -> str:
    return emulated_kernels.parts(row.kernels)[0]


def _broken(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    cells = []
    for own, format_name in dict.fromkeys((_own(row), row.format) for row in rows):
        of_format = [row for row in rows if (_own(row), row.format) == (own, format_name)]
        some = [row for row in of_format if row.effective]
        caught, named = [row for row in some if row.failed], [row for row in some if row.culprits]
        right = [row for row in named if row.right]
        cells.append(
            (
                own,
                format_name,
                str(len(of_format)),
                str(len(some)),
                str(len(caught)),
                _percent(len(caught), len(some)),
                str(len(named)),
                str(len(right)),
                _percent(len(right), len(named)),
            )
        )
    header = ("kernels", "format", "planted", "effective", "caught", "caught, %", "with a culprit",
              "right one first", "right, %")  # fmt: skip
    yield f"**Broken kernels [EMULATED]**\n\n{measured.table(header, cells)}"
    missed = [row for row in rows if row.effective and not row.failed]
    wrong = [row for row in rows if row.right is False]
    for title, some in (("passed", missed), ("with another culprit", wrong)):
        if some:
            header = ("model", "format", "kernels", "status", "ratio", "operator", "culprit")
            lines = [
                (row.model, row.format, row.kernels, row.status, _number(row.ratio),
                 _number(row.operator_ratio), "; ".join(row.culprits[:1]))
                for row in some
            ]  # fmt: skip
            yield f"**Broken kernels {title} [EMULATED]**\n\n{measured.table(header, lines)}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(4)
