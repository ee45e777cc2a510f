"""Do shares predict the error, and is a prescription better than a guess?  On the CPU's imitation.

    python -m benchmarks.prescriptions [--models NAMES] [--formats NAMES] [--target 0.5]
                                       [--output FILE] [--engine]
    python -m benchmarks.prescriptions --run RESULTS

For every architecture (random weights that tell images apart, six synthetic images) and format:
the rmse of the classifier's outputs against float64 as the shares predict it and as the imitation
gives it; then what `prescribe` finds to bring it down to `--target` of that in its six pairs, with
the imitation as the device, and what as many modules give when they are the first, the last or
drawn at random (the median of three draws).  `--engine`: ONNX Runtime's own float16 kernels beside
the imitation, where it is installed.  One JSON line a row goes to `--output` at once, and rows that
it has are not measured again; the tables are printed at the end, as docs/precision-plans.md has
them.  `--run`: predicted against observed in the records of a run on a device instead.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from harness.cases.case import Case, InputSource, ModelSource
from harness.execution.legs import LegRequest, LegResult
from harness.execution.reference.answers import Answers
from harness.execution.reference.cpu_side import CpuSide
from harness.judgement import metrics
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.shares import Shares
from harness.prescription import search, targets
from harness.prescription.prescribe import prescribe
from harness.prescription.search import Modules
from harness.records import results_file
from harness.system.status import CaseProblem

MODELS = (
    "test_byobnet,test_coatnet,test_convnext,test_convnext2,test_convnext3,test_efficientnet,"
    "test_efficientnet_evos,test_efficientnet_gn,test_efficientnet_ln,test_mambaout,test_maxvit,"
    "test_nfnet,test_resnet,test_vit,test_vit2,test_vit3,test_vit4,test_vit_relpos,lcnet_050,"
    "mobilenetv3_small_050"
)
_SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Row:
    """One architecture in one format; errors are rmse of the classifier's outputs.

    `observed`: of the imitation; `engine`: of ONNX Runtime, None where it was not run; `shares`: as
    predicted from the roundings; `independent`: the root of their mean squares alone.  `count` of
    `modules` are in float32 after `pairs` pairs, and `met` says whether the target is; then errors
    over `observed`: `prescribed` and the baselines' of as many modules.
    """

    model: str
    format: str
    observed: float
    shares: float
    independent: float
    modules: int
    count: int
    pairs: int
    met: bool
    prescribed: float
    first: float
    last: float
    drawn: float
    engine: float | None = None


class _Imitated:
    """Both sides of a prescription, with the imitation of `request`'s dtype as the device."""

    def __init__(self, side: CpuSide, given: LegRequest) -> None:
        self.cpu = self
        self._side, self._given = side, given
        self._plain = side.reference(dataclasses.replace(given, dtype="float32"))
        self.output = self._plain.logits or next(iter(self._plain.outputs))
        self.measured: Shares | None = None

    def request(self, case: Case) -> LegRequest:
        return self._given

    def ask(self, request: LegRequest) -> LegResult:
        declared = Arithmetic(request.dtype, promoted=request.promoted)
        outputs = self._side.budget(self._given, declared).runs[0]
        return dataclasses.replace(self._plain, outputs={self.output: outputs[self.output]})

    def reference(self, request: LegRequest) -> LegResult:
        """The same: the target is not about what two sides have in common."""
        return self.ask(request)

    def oracle(self, request: LegRequest, gelu: str = "") -> dict[str, metrics.Array]:
        return self._side.oracle(request, gelu)

    def answers(self, request: LegRequest, arithmetic: Arithmetic) -> Answers:
        return Answers(self._plain, budget=self._side.budget(request, arithmetic))

    def shares(self, *given: Any) -> Shares:
        self.measured = self._side.shares(*given)
        return self.measured


def measure(side: CpuSide, name: str, dtype: str, target: float) -> Row:
    """Measure one row.  Raises CaseProblem for a model that does not run."""
    case = Case(ModelSource("architecture", name), InputSource("synthetic"), dtype)
    model, images = side.prepare(case.model, case.inputs)
    request = LegRequest(model, images, dtype, 8, "strict")
    sides: Any = _Imitated(side, request)
    found = prescribe(sides, case, targets.parse(f"budget_ratio<={target}"))
    best, shares = found.tries[found.chosen], sides.measured
    observed = found.tries[0].rmse
    oracle = side.oracle(request)[sides.output]

    def error(modules: Modules) -> float:
        leg = sides.ask(dataclasses.replace(request, promoted=search.roots(modules)))
        return metrics.rmse(oracle, leg.outputs[sides.output]) / observed

    order = [path for path in shares.order if path]
    return Row(
        model=name,
        format=dtype,
        observed=observed,
        shares=shares.rmse(sides.output),
        independent=float(shares.squares.sum()) ** 0.5,
        modules=len(order),
        count=best.count,
        pairs=len(found.tries),
        met=found.met,
        prescribed=best.rmse / observed,
        first=error(search.first(shares, best.count, order)),
        last=error(search.first(shares, best.count, order[::-1])),
        drawn=statistics.median(error(search.drawn(shares, best.count, seed)) for seed in _SEEDS),
    )


def engine(side: CpuSide, name: str) -> float:
    """Error of ONNX Runtime's float16 kernels.  Raises as the engine does."""
    from harness.detection.engines import EngineDevice, open_engine
    from harness.execution import legs

    model, images = side.prepare(ModelSource("architecture", name), InputSource("synthetic"))
    request = LegRequest(model, images, "float16", 8, "strict", repeat=0)
    device = EngineDevice(open_engine("onnxruntime"), "float16")
    result = legs.run(device, request, lambda stage: None)
    output = result.logits or next(iter(result.outputs))
    return metrics.rmse(side.oracle(request)[output], result.outputs[output])


def table(rows: list[Row]) -> str:
    """The rows and what they say together, as Markdown."""
    models = list(dict.fromkeys(row.model for row in rows))
    formats = list(dict.fromkeys(row.format for row in rows))
    both = ", ".join(formats)
    heads = ("architecture", f"predicted / observed: {both}", f"k: {both}", f"pairs: {both}",
             *(f"error with k in float32, {one}: prescribed / first / last / random"
               for one in formats))  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name in models:
        mine = [row for row in rows if row.model == name]
        cells = [
            name,
            ", ".join(f"{row.shares / row.observed:.2f}" for row in mine),
            ", ".join(f"{row.count} of {row.modules}" for row in mine),
            ", ".join(str(row.pairs) for row in mine),
            *(f"{row.prescribed:.2f} / {row.first:.2f} / {row.last:.2f} / {row.drawn:.2f}"
              for row in mine),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *conclusions(rows)])


def conclusions(rows: list[Row]) -> list[str]:
    """Against what is wanted: within 20 %, never worse than a baseline, mostly better."""

    def near(values: list[float]) -> str:
        inside = sum(0.8 <= value <= 1.2 for value in values)
        return f"{inside} of {len(values)} ({min(values):.2f} to {max(values):.2f})"

    signed = [row.shares / row.observed for row in rows]
    alone = [row.independent / row.observed for row in rows]
    said = [f"Predicted within 20 % of observed: {near(signed)}; mean squares alone {near(alone)}."]
    said.append(f"Target met: {sum(row.met for row in rows)} of {len(rows)}.")
    for name in ("first", "last", "drawn"):
        better = sum(row.prescribed < getattr(row, name) for row in rows)
        worse = sum(row.prescribed > 1.02 * getattr(row, name) for row in rows)
        said.append(
            f"Against {name} k: better in {better}, worse by over 2 % in {worse} of {len(rows)}."
        )
    best = {
        (row.model, row.format): row.prescribed < min(row.first, row.last, row.drawn)
        for row in rows
    }
    models = {row.model for row in rows}
    every = sum(all(won for (name, _), won in best.items() if name == one) for one in models)
    said.append(
        f"Better than all three: {sum(best.values())} of {len(rows)}, in every format on {every} "
        f"of {len(models)}."
    )
    engines = [row for row in rows if row.engine is not None]
    said += [
        f"ONNX Runtime, {row.model}: {row.engine / row.observed:.2f} of the imitation's error, "
        f"predicted / observed {row.shares / row.engine:.2f}."
        for row in engines if row.engine
    ]  # fmt: skip
    return said


def of_run(folder: Path) -> str:
    """What the records of a run predict against what they saw, as Markdown."""
    run = results_file.read(folder / "results.jsonl")
    lines = ["| case | predicted / imitation's | predicted / device's |", "|---|---|---|"]
    ratios = []
    for case in run.cases:
        found = case.shares
        if found is None or not found.predicted_rmse:
            continue
        both = (found.predicted_rmse / found.budget_rmse, found.predicted_rmse / found.device_rmse)
        ratios.append(both[1])
        lines.append(f"| {case.case_id} | {both[0]:.2f} | {both[1]:.2f} |")
    near = sum(0.8 <= ratio <= 1.2 for ratio in ratios)
    return "\n".join([*lines, "", f"Within 20 % of the device's: {near} of {len(ratios)}."])


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--formats", default="float16,bfloat16")
    parser.add_argument("--target", type=float, default=0.5)
    parser.add_argument("--output", type=Path, default=Path("reports/prescriptions.jsonl"))
    parser.add_argument("--engine", action="store_true")
    parser.add_argument("--run", type=Path, help="folder of a run's results")
    given = parser.parse_args()
    if given.run is not None:
        print(of_run(given.run))
        return
    given.output.parent.mkdir(parents=True, exist_ok=True)
    known: list[Row] = []
    if given.output.exists():
        known = [Row(**json.loads(line)) for line in given.output.read_text().splitlines()]
    rows = []
    for name in given.models.split(","):
        for dtype in given.formats.split(","):
            row = next((one for one in known if (one.model, one.format) == (name, dtype)), None)
            row = row or _measured(given, name, dtype)
            rows += [row] if row is not None else []
    if rows:
        print(table(rows))


def _measured(given: Any, name: str, dtype: str) -> Row | None:
    side = CpuSide()
    try:
        row = measure(side, name, dtype, given.target)
        if given.engine and dtype == "float16":
            with contextlib.suppress(CaseProblem):  # a model that the engine does not take
                row = dataclasses.replace(row, engine=engine(side, name))
    except Exception as error:  # one model must not take the others with it
        print(f"{name} in {dtype}: {type(error).__name__}: {error}", flush=True)
        return None
    with given.output.open("a") as file:
        file.write(json.dumps(dataclasses.asdict(row)) + "\n")
    print(f"{name} in {dtype}: {row.shares / row.observed:.2f}", flush=True)
    return row


if __name__ == "__main__":
    main()
