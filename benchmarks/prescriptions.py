"""Do shares predict the error, and is a prescription better than a guess?  On the CPU's imitation.

    python -m benchmarks.prescriptions [--models NAMES] [--formats NAMES] [--target 0.5]
                                       [--output FILE] [--engine]

For every architecture (random weights that tell images apart, six synthetic images) and format:
the rmse of the classifier's outputs against float64 as the shares predict it and as the imitation
gives it; then the smallest set of modules that is predicted to bring it down to `--target` of that
(`harness/prescription/search.py`), what it gives, and what as many modules give when they are the
first, the last or drawn at random (the median of three draws).  `--engine`: ONNX Runtime's own
float16 kernels beside the imitation, where it is installed.  One JSON line a row goes to `--output`
at once, and rows that it has are not measured again; the table is printed at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

from harness.cases.case import InputSource, ModelSource
from harness.execution.legs import LegRequest
from harness.execution.reference.cpu_side import CpuSide
from harness.judgement import metrics
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.shares import DIRECTIONS
from harness.prescription import search
from harness.prescription.search import Modules

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

    `observed`: of the imitation; `engine`: of ONNX Runtime, None where it was not run; `count` of
    `modules` are in float32, None where no set is predicted to reach the target; then errors over
    `observed`: `predicted`, `prescribed` and the baselines' of as many modules.  `shares_seconds`,
    `pass_seconds`: of the shares, and of one imitated pass.
    """

    model: str
    format: str
    observed: float
    shares: float
    modules: int
    count: int | None
    predicted: float
    prescribed: float
    first: float
    last: float
    drawn: float
    shares_seconds: float
    pass_seconds: float
    engine: float | None = None


def measure(side: CpuSide, name: str, dtype: str, target: float) -> Row:
    """Measure one row.  Raises CaseProblem for a model that does not run."""
    model, images = side.prepare(ModelSource("architecture", name), InputSource("synthetic"))
    request = LegRequest(model, images, dtype, 8, "strict")
    plain = side.reference(dataclasses.replace(request, dtype="float32", repeat=0))
    output = plain.logits or next(iter(plain.outputs))
    oracle = side.oracle(request)[output]

    def error(modules: Modules) -> float:
        declared = Arithmetic(dtype, promoted=search.roots(modules))
        return metrics.rmse(oracle, side.budget(request, declared).runs[0][output])

    began = time.perf_counter()
    observed = error(frozenset())
    pass_seconds = time.perf_counter() - began
    began = time.perf_counter()
    shares = side.shares(request, Arithmetic(dtype), [output], DIRECTIONS)
    shares_seconds = time.perf_counter() - began
    chosen = search.smallest(shares, [target**2], frozenset())
    count = len(chosen) if chosen is not None else None
    found: dict[str, float] = dict.fromkeys(("prescribed", "first", "last", "drawn"), float("nan"))
    if chosen is not None:
        size = len(chosen)
        order = [path for path in shares.order if path]
        found["prescribed"] = error(chosen)
        found["first"] = error(search.first(shares, size, order))
        found["last"] = error(search.first(shares, size, order[::-1]))
        found["drawn"] = statistics.median(
            error(search.drawn(shares, size, seed)) for seed in _SEEDS
        )
    return Row(
        model=name,
        format=dtype,
        observed=observed,
        shares=shares.rmse(output),
        modules=sum(bool(path) for path in shares.order),
        count=count,
        predicted=shares.remaining(chosen or ())[0] ** 0.5,
        shares_seconds=shares_seconds,
        pass_seconds=pass_seconds,
        **{key: value / observed for key, value in found.items()},
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
    heads = ("model", "format", "shares / observed", "engine", "k", "predicted", "prescribed",
             "first k", "last k", "random k", "shares: passes")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        given = "" if row.engine is None else f"{row.engine / row.observed:.2f}"
        count = "none" if row.count is None else f"{row.count} of {row.modules}"
        cells = [row.model, row.format, f"{row.shares / row.observed:.2f}", given, count]
        cells += [
            f"{v:.2f}" for v in (row.predicted, row.prescribed, row.first, row.last, row.drawn)
        ]
        cells.append(f"{row.shares_seconds / row.pass_seconds:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *conclusions(rows)])


def conclusions(rows: list[Row]) -> list[str]:
    """Against what is wanted: within 20 %, never worse than a baseline, mostly better."""
    near = sum(0.8 <= row.shares / row.observed <= 1.2 for row in rows)
    said = [f"Predicted within 20 % of observed: {near} of {len(rows)}."]
    with_plan = [row for row in rows if row.count is not None]
    for name in ("first", "last", "drawn"):
        better = sum(row.prescribed < getattr(row, name) for row in with_plan)
        worse = sum(row.prescribed > 1.02 * getattr(row, name) for row in with_plan)
        said.append(
            f"Against {name} k: better in {better}, worse by over 2 % in {worse} of "
            f"{len(with_plan)}."
        )
    best = sum(row.prescribed < min(row.first, row.last, row.drawn) for row in with_plan)
    said.append(f"Better than all three: {best} of {len(with_plan)}.")
    return said


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--formats", default="float16,bfloat16")
    parser.add_argument("--target", type=float, default=0.5)
    parser.add_argument("--output", type=Path, default=Path("reports/prescriptions.jsonl"))
    parser.add_argument("--engine", action="store_true")
    given = parser.parse_args()
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
    print(table(rows))


def _measured(given: Any, name: str, dtype: str) -> Row | None:
    side = CpuSide()
    try:
        row = measure(side, name, dtype, given.target)
        if given.engine and dtype == "float16":
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
