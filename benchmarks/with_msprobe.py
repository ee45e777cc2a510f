"""Jobs by msprobe: PrecisionDebugger around a forward of each side, then its comparison.

Task and level are its defaults, statistics of every torch API (L1); MSPROBE_TASK=tensor takes the
tensors of every module (L0) instead.  Both sides are dumped in one process, which spares msprobe a
second start.  It catches a fault when its column Result says error or warning anywhere.
"""

from __future__ import annotations

import collections
import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness  # noqa: F401  (before torch)
from benchmarks import planted
from benchmarks.planted import Answer, Job, Sides

TASK = os.environ.get("MSPROBE_TASK", "statistics")
LEVEL = {"statistics": "L1", "tensor": "L0"}[TASK]


def work(model: Path, images: Path, folder: Path, jobs: Sequence[Job]) -> list[Answer]:
    """Dump and compare; of several jobs only the CPU's dumps are kept."""
    sides = Sides(model, images)

    import torch
    from msprobe.pytorch import PrecisionDebugger
    from msprobe.pytorch.compare.pt_compare import pt_compare

    dumps = folder / "dumps"
    config = {
        "task": TASK,
        "dump_path": str(dumps),
        "rank": [],
        "step": [],
        "level": LEVEL,
        TASK: {"scope": [], "list": [], "data_mode": ["all"]},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    debugger = PrecisionDebugger(config_path=str(folder / "config.json"))
    step = 0

    def dump(on: Any, batch: torch.Tensor) -> Path:
        nonlocal step
        with torch.no_grad():
            debugger.start(model=on)
            on(batch)
            debugger.stop()
            debugger.step()
        [path] = (dumps / f"step{step}").glob("*/dump.json")
        step += 1
        return path

    golden: dict[int, Path] = {}
    found = []
    for number, job in enumerate(jobs):
        if job.seed not in golden:
            golden[job.seed] = dump(sides.cpu, sides.images(job))
        sides.prepare(job)
        target = dump(sides.npu, sides.images(job).to(sides.device))
        paths = {"npu_path": str(target), "bench_path": str(golden[job.seed])}
        output = folder / f"compared{number}"
        pt_compare({**paths, "is_print_compare_log": False}, str(output))
        [table] = output.glob("*.csv")
        with table.open(encoding="utf-8") as opened:
            counts = collections.Counter(row["Result"] for row in csv.DictReader(opened))
        marked = counts["error"] + counts["warning"]
        said = f"{counts['error']} errors, {counts['warning']} warnings in {counts.total()}"
        found.append(Answer(job.name, job.numerics, job.seed, marked > 0, said))
        if len(jobs) > 1:
            shutil.rmtree(target.parents[1])
    return found


if __name__ == "__main__":
    planted.answer(work)
