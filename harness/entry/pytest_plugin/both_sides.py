"""Fixtures of a case's two sides: its images, its model in the process of each, their comparison.

A test that asks for one of them is run for every selected case, as one that asks for `case_record`.
By then the case has run: for its own images the models answer with what they gave there, for others
they run again, each in the process of its side.  Nothing is read, run or compared before it is
asked for.  A case that ran on a Ray cluster left its outputs there: its numbers are the record's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.entry.pytest_plugin import ray_state, state
from harness.execution.legs import LegResult
from harness.judgement import output_comparison
from harness.judgement.metrics import Array
from harness.judgement.output_comparison import OutputComparison
from harness.records.leg import LegRecord
from harness.records.lines import CaseRecord
from harness.report.tables.per_case import conclusion
from harness.runs.runner import Ran
from harness.system import foreign
from harness.system.status import CaseProblem, UsageProblem

_ELSEWHERE = (
    "The case ran on another host (--ray), where its images and outputs stayed: only its record is "
    "here."
)


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a case, normalised as its model takes them.

    `labels`: a readable name for each; `shape`: (N, C, H, W).  As a NumPy array they are float32.
    """

    labels: tuple[str, ...]
    shape: tuple[int, ...]
    _path: Path | None  # None: on another host

    def __len__(self) -> int:
        return len(self.labels)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Read them.  Raises UsageProblem for those of another host."""
        from safetensors.numpy import load

        if self._path is None:
            raise UsageProblem(_ELSEWHERE)
        with foreign.open_regular(self._path) as file:
            found: Array = load(file.read())["images"]
        return found if dtype is None else found.astype(dtype)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a model gave on one side; `labels`: a name for each image.

    `arrays`: name -> float32 or float64 [N, ...]: "output", or "output[0]" of a tuple.
    """

    labels: tuple[str, ...]
    _result: LegResult | None  # None: on another host

    @property
    def arrays(self) -> Mapping[str, Array]:
        """All that the model returned.  Raises UsageProblem for a case of another host."""
        if self._result is None:
            raise UsageProblem(_ELSEWHERE)
        return self._result.outputs

    @property
    def logits(self) -> Array | None:
        """The classifier's output [N, classes]; None without one.  Raises as `arrays`."""
        arrays, name = self.arrays, self.logits_name
        return arrays[name] if name is not None else None

    @property
    def logits_name(self) -> str | None:
        """Its name in `arrays`."""
        return self._result.logits if self._result is not None else None

    @property
    def here(self) -> bool:
        """Whether this process has them."""
        return self._result is not None


@dataclasses.dataclass(frozen=True)
class SideModel:
    """A case's model on one side.

    Called with the case's `images` it gives what it gave in the case; called with others, float32
    [N, C, H, W] of the case's size, it runs in the side's process, in the case's dtype, batch size
    and numerics.  It fails the test where the side came to no outputs.
    """

    _record: CaseRecord
    _images: Images
    _leg: LegRecord | None  # what the record has of the side
    _result: LegResult | None
    _forward: Callable[[Array], LegResult] | None

    @property
    def weights_sha256(self) -> str:
        """The digest of all parameters and buffers as this side's process loaded them."""
        return self._given().weights_sha256

    def __call__(self, images: Any) -> Outputs:
        """Run the model.  Raises UsageProblem for images that it cannot take."""
        loaded = self._given().weights_sha256
        if images is self._images:
            return Outputs(images.labels, self._result)
        if self._forward is None:
            raise UsageProblem(_ELSEWHERE)
        array = np.array(images, np.float32)
        if array.ndim != 4 or not len(array) or array.shape[1:] != self._images.shape[1:]:
            one = ", ".join(map(str, self._images.shape[1:]))
            raise UsageProblem(
                f"Images of shape {list(array.shape)} are none of this case: give [N, {one}]."
            )
        try:
            found = self._forward(array).returned()
        except CaseProblem as problem:
            pytest.fail(f"{problem.status.value}: {problem.reason}", pytrace=False)
        if found.record.weights_sha256 != loaded:
            pytest.fail(
                "The model was loaded with other weights than in its case: the files changed "
                "during the run.",
                pytrace=False,
            )
        return Outputs(tuple(f"image {i}" for i in range(len(array))), found)

    def _given(self) -> LegRecord:
        """What the side did in the case; a case that did not come to it fails the test."""
        if self._leg is None:
            pytest.fail(conclusion(self._record), pytrace=False)
        return self._leg


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Compares two sides' outputs, as `comparison(cpu_model(images), npu_model(images))`.

    `recorded`: the numbers that the case's record has.
    """

    recorded: OutputComparison

    def __call__(self, reference: Outputs, candidate: Outputs) -> OutputComparison:
        """The device's outputs against the CPU's; of a case on another host what is recorded."""
        if not reference.here and not candidate.here:
            return self.recorded
        return output_comparison.compare(
            reference.arrays,
            candidate.arrays,
            reference.logits_name,
            reference.labels,
            emulated=self.recorded.emulated,
        )


@dataclasses.dataclass(frozen=True)
class _Case:
    """A case that has run: its record, and its outputs where this process has them."""

    record: CaseRecord
    ran: Ran | None
    images: Images


@pytest.fixture
def _harness_case(case_record: CaseRecord, request: pytest.FixtureRequest) -> _Case:
    config = request.config
    ran = None
    if ray_state.swept(config, case_record.case_id) is None:
        ran = state.session(config).runner.last
    record = ran.record if ran is not None else case_record
    path = Path(ran.request.inputs.path) if ran is not None else None
    return _Case(record, ran, Images(tuple(record.labels), tuple(record.inputs_shape), path))


@pytest.fixture
def images(_harness_case: _Case) -> Images:
    """The images of the case: len(images), .labels, .shape, and np.asarray(images)."""
    return _harness_case.images


@pytest.fixture
def cpu_model(_harness_case: _Case, request: pytest.FixtureRequest) -> SideModel:
    """The case's model on the CPU, in the process of that side: cpu_model(images).logits."""
    leg, ran = _harness_case.record.reference, _harness_case.ran
    if ran is None:
        return SideModel(_harness_case.record, _harness_case.images, leg, None, None)
    cpu = state.session(request.config).runner.sides.cpu
    forward = functools.partial(cpu.on_images, ran.request)
    return SideModel(_harness_case.record, _harness_case.images, leg, ran.reference, forward)


@pytest.fixture
def npu_model(_harness_case: _Case, request: pytest.FixtureRequest) -> SideModel:
    """The case's model on the run's device, in its process: npu_model(images).logits."""
    leg, ran = _harness_case.record.candidate, _harness_case.ran
    if ran is None:
        return SideModel(_harness_case.record, _harness_case.images, leg, None, None)
    sides = state.session(request.config).runner.sides
    forward = functools.partial(sides.on_images, ran.request)
    return SideModel(_harness_case.record, _harness_case.images, leg, ran.candidate, forward)


@pytest.fixture
def comparison(_harness_case: _Case) -> Comparison:
    """What compares both sides: comparison(cpu_model(images), npu_model(images))."""
    record = _harness_case.record
    if record.gate is not None:
        found = OutputComparison.of_gate(record.gate, emulated=record.emulated)
    else:
        # What the model returns itself: features inside it are judged and recorded as well.
        rows = [row for row in record.outputs if row.name.startswith("output")]
        found = OutputComparison.of_outputs(
            [row.min_cosine for row in rows],
            [row.mean_abs_error for row in rows],
            emulated=record.emulated,
        )
    return Comparison(found)
