"""Judges a module or function of the user's own: from a test, a notebook or a script.

Nothing here imports torch before something is judged.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.case import DTYPES, NUMERICS, Case, InputSource, ModelSource
from harness.devices import fault_plan as fault_plans
from harness.devices.choice import Choice, choose
from harness.execution.settings import RunSettings
from harness.records.lines import CaseRecord
from harness.runs.session import Session, SessionOptions
from harness.system.status import Status, UsageProblem

if TYPE_CHECKING:
    from harness.runs.runner import CaseRunner

# The record's name for a module is that of its class: two of one class in a run get a number.
_MOST_NAMES = 10_000


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What came of a module: the record of a case, and where its files are.

    True where it passed.  `record` has every number; a notebook shows it as the report does.
    `results`: the folder of records and reproducers, None where none were asked for.
    """

    record: CaseRecord
    results: Path | None = None

    @property
    def status(self) -> Status:
        """Outcome; it is equal to its name, as in `judgement.status == "pass"`."""
        return self.record.status

    @property
    def reason(self) -> str:
        """Why it did not pass, a sentence; "" where it did."""
        return self.record.reason

    @property
    def budget_ratio(self) -> float | None:
        """The greatest error in units of what the arithmetic may cost; None: not measured."""
        return self.record.budget_ratio

    @property
    def culprit(self) -> tuple[str, str] | None:
        """Operator and module that are to blame: ("aten::convolution.default", "layer1.conv")."""
        found = self.record.localization
        rows = list(found.culprits) if found is not None else []
        check = self.record.operators
        if not rows and check is not None and check.culprits:
            rows = list(check.worst[:1])
        return (rows[0].operator, rows[0].module) if rows else None

    @property
    def reproducers(self) -> tuple[Path, ...]:
        """Scripts that show the fault without the harness, the worst culprit's first."""
        found = self.record.localization
        if found is None or self.results is None:
            return ()
        return tuple(self.results / name for name in found.reproducers)

    def __bool__(self) -> bool:
        return self.status is Status.PASS

    def __str__(self) -> str:
        from harness.report import text

        return text.render_case(self.record)

    def message(self) -> str:
        """What a failed test says: the conclusion, what was measured, the culprit."""
        from harness.report.tables import localization, per_case

        record = self.record
        said = [per_case.conclusion(record)]
        said += [f"- {finding}" for finding in record.findings if finding.reason != record.reason]
        said += localization.lines(record)
        if self.results is not None:
            said += [f"Reproducer of the worst: {path}" for path in self.reproducers[:1]]
        return "\n".join(said)

    def _repr_html_(self) -> str:
        """For notebooks: the case as in the HTML report."""
        from harness.report.html import page

        return page.render_alone(self.record)


def judge(
    device: str,
    module: Any,
    inputs: Any,
    *,
    dtype: str = "float32",
    numerics: str = "default",
    name: str | None = None,
    results: str | Path | None = None,
    fault_plan: str | Path | None = None,
) -> Judgement:
    """Judge a module or function on a device against the CPU, as the harness judges models.

    `device`: as --device takes it: "npu", "npu:1", "npu-emulated", "cuda", "cpu", "auto".
    `module`: a torch.nn.Module, which runs in eval mode, or a function of tensors.  `inputs`: a
    tensor, a tuple of positional arguments, a mapping of named ones, or `Arguments(*args,
    **kwargs)` for both; a list of these for several calls.  Floating-point tensors run in `dtype`;
    weights and inputs are taken as float32.  Outputs: tensors, and tuples, lists, dicts and
    dataclasses of them.  `numerics`: "default", the device as it comes, or "strict".  `name`: what
    records call it, None: its class or function.  `results`: a folder for records and reproducers,
    None: none are written.  `fault_plan`: a file of faults that the emulated NPU is to have, to see
    that they are found.

    The device's process is kept for further calls, until this one ends.  Raises UsageProblem, one
    sentence, for bad input: no such device, random numbers, inputs that are changed in place, no
    tensor among the outputs, what cannot be pickled.
    """
    check_arguments(dtype, numerics)
    choice = choose(device)
    plan = None
    if fault_plan is not None:
        plan = fault_plans.read_for(Path(fault_plan), choice.spec)
    folder = Path(results) if results is not None else None
    runner, keep = _kept(choice, plan, folder)
    record = judge_by(runner, module, inputs, dtype=dtype, numerics=numerics, name=name)
    keep(record)
    return Judgement(record, folder)


def assert_same_on(device: str, module: Any, inputs: Any, **options: Any) -> Judgement:
    """Raise AssertionError unless a module or function is judged `pass` on a device.

    Arguments and other errors are those of `judge`; returns what it does.
    """
    __tracebackhide__ = True
    return check(judge(device, module, inputs, **options))


def check(found: Judgement) -> Judgement:
    """Raise AssertionError with its message unless a judgement is `pass`."""
    __tracebackhide__ = True
    if not found:
        raise AssertionError(found.message())
    return found


def check_arguments(dtype: str, numerics: str) -> None:
    """Raise UsageProblem for a dtype or a numerics profile that there is not."""
    for what, given, known in (("dtype", dtype, DTYPES), ("numerics", numerics, NUMERICS)):
        if given not in known:
            raise UsageProblem(f"{what} is {given!r}: give one of {', '.join(known)}.")


def judge_by(
    runner: CaseRunner, module: Any, inputs: Any, *, dtype: str, numerics: str, name: str | None
) -> CaseRecord:
    """Judge by a runner, as `judge`."""
    from harness.execution import own

    called = name or _name(module)
    with tempfile.TemporaryDirectory(prefix="npu-accuracy-") as folder:
        request = own.prepare(
            module, inputs, Path(folder), name=called, dtype=dtype, numerics=numerics,
            repeat=runner.settings.repeat,
        )  # fmt: skip
        count = request.inputs.count
        for number in range(1, _MOST_NAMES):
            case = Case(
                ModelSource("module", called if number == 1 else f"{called}.{number}"),
                InputSource("given", count=count),
                dtype,
                request.batch_size,
                numerics,
                throughput=(),
            )
            if not runner.ran(case):
                break
        runner.sides.give(case, request)
        return runner.run(case)


def _name(module: Any) -> str:
    while isinstance(module, functools.partial):
        module = module.func
    named = getattr(module, "__qualname__", None) or type(module).__qualname__
    return str(named).rpartition("<locals>.")[2].replace("<lambda>", "lambda")


_SESSIONS: dict[tuple[Choice, str | None, Path | None], tuple[Session, CaseRunner]] = {}


def _kept(
    choice: Choice, plan: str | None, results: Path | None
) -> tuple[CaseRunner, Callable[[CaseRecord], None]]:
    """The runner for a device, a fault plan and a folder, and what takes its records.

    Raises UsageProblem.
    """
    key = (choice, plan, results.absolute() if results is not None else None)
    if key not in _SESSIONS:
        settings = RunSettings(choice.spec, fault_plan=plan)
        session = Session(settings, SessionOptions(choice.reason, results or Path("reports")))
        if results is not None:
            session.begin([])
        if not _SESSIONS:
            atexit.register(_end)
        _SESSIONS[key] = session, session.runner_apart(results)
    session, runner = _SESSIONS[key]
    return runner, session.add if results is not None else lambda record: None


def _end() -> None:
    """End every device's process, and the records."""
    for session, _ in _SESSIONS.values():
        session.close()
        if session.started:
            try:
                session.end(int(session.settle(0, {})))
            except UsageProblem as problem:  # the folder has gone, or the disk is full
                print(f"error: {problem}", file=sys.stderr)
    _SESSIONS.clear()
