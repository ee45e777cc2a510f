"""Jobs by Polygraphy: Comparator.run over two runners, then compare_accuracy as it comes.

Runners are our own, since Polygraphy's PyTorch runner asks for CUDA.  Tolerances are its default
(each element: absolute or relative difference at most 1e-5).  It catches a fault when its accuracy
result, or its own search for NaN and infinities (`Comparator.validate`), is false.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness  # noqa: F401  (before torch)
from benchmarks import planted
from benchmarks.planted import Answer, Job, Sides


def work(model: Path, images: Path, folder: Path, jobs: Sequence[Job]) -> list[Answer]:
    """Run all jobs; Polygraphy writes nothing unless it is asked to."""
    import numpy as np
    import torch
    from polygraphy.backend.base import BaseRunner
    from polygraphy.common import TensorMetadata
    from polygraphy.comparator import Comparator
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.ERROR

    class Runner(BaseRunner):  # type: ignore[misc]
        """The model on one side."""

        def __init__(self, name: str, model: torch.nn.Module, device: torch.device) -> None:
            super().__init__(name=name)
            self._model, self._device = model, device

        def get_input_metadata_impl(self) -> Any:
            return TensorMetadata().add("images", np.float32, (None, 3, 224, 224))

        def infer_impl(self, feed_dict: Any) -> Any:
            started = time.perf_counter()
            with torch.no_grad():
                output = self._model(torch.from_numpy(feed_dict["images"]).to(self._device))
            outputs = OrderedDict(output=output.cpu().numpy())
            self.inference_time = time.perf_counter() - started
            return outputs

    sides = Sides(model, images)
    runners = [
        Runner("cpu", sides.cpu, torch.device("cpu")),
        Runner("npu", sides.npu, sides.device),
    ]
    found = []
    for job in jobs:
        sides.prepare(job)
        results = Comparator.run(runners, data_loader=[{"images": sides.images(job).numpy()}])
        finite = Comparator.validate(results, check_inf=True, check_nan=True)
        accurate = bool(Comparator.compare_accuracy(results))
        said = "passed" if accurate else "accuracy failed"
        if not finite:
            said = "validation failed"
        found.append(Answer(job.name, job.numerics, job.seed, not (accurate and finite), said))
    return found


if __name__ == "__main__":
    planted.answer(work)
