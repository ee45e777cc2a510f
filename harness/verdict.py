"""Limits applied to outputs: structure first, finiteness second, numbers last.

Pure functions over NumPy arrays; nothing here knows a device or pytest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from harness import metrics
from harness.metrics import Array
from harness.status import Stage, Status, worst

# The documented protocol: error rate < 1.0 %, and Top-1 the same for every image.
ERROR_RATE_LIMIT_PERCENT = 1.0
# Outputs of different images more alike than this cannot be told apart by the documented gate:
# with an error rate limit of 1 % (cosine 0.99), swapping two such images would still pass it.
DISCRIMINATION_LIMIT = 1.0 - ERROR_RATE_LIMIT_PERCENT / 100.0


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One row of the documented per-image table."""

    image: int
    label: str
    cpu_top1: int
    device_top1: int
    cosine: float
    max_abs_error: float  # of the logits
    margin: float  # CPU's Top-1 logit minus its second

    @property
    def match(self) -> bool:
        """Whether both sides name the same class."""
        return self.cpu_top1 == self.device_top1


@dataclasses.dataclass(frozen=True)
class DocumentedGate:
    """The documented accuracy table, computed on softmax probabilities."""

    mean_cosine: float
    mae: float
    error_rate_percent: float
    top1_matches: int
    images: int
    rows: tuple[ImageRow, ...]

    @property
    def top1_agreement_percent(self) -> float:
        """Share of images with the same Top-1 on both sides, in percent."""
        return 100.0 * self.top1_matches / self.images

    @property
    def passed(self) -> bool:
        """Error rate below the limit and every Top-1 equal; a NaN never passes."""
        return (
            self.error_rate_percent < ERROR_RATE_LIMIT_PERCENT and self.top1_matches == self.images
        )


@dataclasses.dataclass(frozen=True)
class OutputNumbers:
    """Errors of one output of the model, device against CPU."""

    name: str
    shape: tuple[int, ...]
    min_cosine: float  # smallest over the images, on the raw output
    max_abs_error: float
    max_abs_index: tuple[int, ...]
    mean_abs_error: float
    rmse: float
    nrmse: float
    norm_ratio: float


@dataclasses.dataclass(frozen=True)
class Finding:
    """One reason that counts against (or limits) a case."""

    status: Status
    stage: Stage
    reason: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Outcome of a comparison with all its reasons and every number that could be taken."""

    findings: tuple[Finding, ...]
    gate: DocumentedGate | None
    outputs: tuple[OutputNumbers, ...]
    discrimination: metrics.Discrimination | None

    @property
    def status(self) -> Status:
        """The finding that wins; `pass` only when there is none."""
        return worst(f.status for f in self.findings) if self.findings else Status.PASS

    @property
    def leading(self) -> Finding | None:
        """The finding that gave the status."""
        return next((f for f in self.findings if f.status is self.status), None)


def judge(
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    *,
    logits: str | None,
    labels: Sequence[str],
) -> Verdict:
    """Judge the device's outputs against the CPU's.

    `reference`, `candidate`: output name -> float array [N, ...], N = number of images.
    `logits`: name of the classifier output [N, C], or None for a model without classifier: then
    the documented gate, which is about classes, does not apply.
    `labels`: one name per image.
    """
    structural = _structure(reference, candidate, len(labels))
    if structural:
        return Verdict(tuple(structural), None, (), None)
    broken = _nonfinite(reference, candidate)
    if broken:
        return Verdict(tuple(broken), None, (), None)

    outputs = tuple(_numbers(name, reference[name], candidate[name]) for name in reference)
    findings = [finding for numbers in outputs for finding in _judge_numbers(numbers)]
    gate = discrimination = None
    if logits is not None:
        gate = documented_gate(reference[logits], candidate[logits], labels)
        discrimination = metrics.discrimination(reference[logits])
        findings += _judge_gate(gate) + _judge_discrimination(discrimination)
    return Verdict(tuple(findings), gate, outputs, discrimination)


def documented_gate(reference: Array, candidate: Array, labels: Sequence[str]) -> DocumentedGate:
    """Compute the documented accuracy tables from logits [N, C] of both sides."""
    p_cpu, p_dev = metrics.softmax(reference), metrics.softmax(candidate)
    cosines = metrics.cosine_similarity(p_cpu, p_dev)
    top_cpu, top_dev = metrics.top1(reference), metrics.top1(candidate)
    margins = metrics.top1_margin(reference)
    rows = tuple(
        ImageRow(
            image=i,
            label=label,
            cpu_top1=int(top_cpu[i]),
            device_top1=int(top_dev[i]),
            cosine=float(cosines[i]),
            max_abs_error=metrics.max_absolute_error(reference[i], candidate[i]).difference,
            margin=float(margins[i]),
        )
        for i, label in enumerate(labels)
    )
    mean_cosine = float(np.mean(cosines))
    return DocumentedGate(
        mean_cosine=mean_cosine,
        mae=metrics.mean_absolute_error(p_cpu, p_dev),
        error_rate_percent=metrics.error_rate_percent(mean_cosine),
        top1_matches=sum(row.match for row in rows),
        images=len(rows),
        rows=rows,
    )


def _structure(
    reference: Mapping[str, Array], candidate: Mapping[str, Array], images: int
) -> list[Finding]:
    def finding(reason: str) -> Finding:
        return Finding(Status.FAIL_SHAPE, Stage.COMPARE, reason)

    found = []
    if not reference:
        found.append(finding("The model gave no output on the CPU: there is nothing to compare."))
    for name in reference.keys() - candidate.keys():
        found.append(finding(f"Output {name!r} is missing on the device."))
    for name in candidate.keys() - reference.keys():
        found.append(finding(f"Output {name!r} exists on the device but not on the CPU."))
    for name in reference.keys() & candidate.keys():
        want, got = reference[name].shape, candidate[name].shape
        if want != got:
            found.append(
                finding(
                    f"Output {name!r} has shape {list(got)} on the device but {list(want)} on "
                    "the CPU."
                )
            )
        elif not want or want[0] != images:
            found.append(
                finding(
                    f"Output {name!r} has shape {list(want)}: its first dimension must be the "
                    f"{images} images."
                )
            )
        elif 0 in want:
            found.append(finding(f"Output {name!r} of shape {list(want)} has no elements."))
    return sorted(found, key=lambda f: f.reason)


def _nonfinite(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> list[Finding]:
    found = []
    for name in reference:
        on_cpu = metrics.count_nonfinite(reference[name])
        on_device = metrics.count_nonfinite(candidate[name])
        size = reference[name].size
        if on_cpu:
            # Also when both sides agree: NaN against NaN proves nothing about the device.
            found.append(
                Finding(
                    Status.FAIL_REFERENCE,
                    Stage.REFERENCE,
                    f"Output {name!r} has {on_cpu} NaN or infinite values of {size} on the CPU "
                    "itself: look at the weights and inputs before judging a device.",
                )
            )
        if on_device:
            where = np.argwhere(~np.isfinite(candidate[name]))[0].tolist()
            value = candidate[name][tuple(where)]
            found.append(
                Finding(
                    Status.FAIL_NAN,
                    Stage.COMPARE,
                    f"Output {name!r} has {on_device} NaN or infinite values of {size} on the "
                    f"device, the first ({value}) at index {where}; the CPU has {on_cpu}.",
                )
            )
    return found


def _numbers(name: str, reference: Array, candidate: Array) -> OutputNumbers:
    worst_element = metrics.max_absolute_error(reference, candidate)
    flat_ref = reference.reshape(len(reference), -1)
    flat_cand = candidate.reshape(len(candidate), -1)
    return OutputNumbers(
        name=name,
        shape=tuple(reference.shape),
        min_cosine=float(np.min(metrics.cosine_similarity(flat_ref, flat_cand))),
        max_abs_error=worst_element.difference,
        max_abs_index=worst_element.index,
        mean_abs_error=metrics.mean_absolute_error(reference, candidate),
        rmse=metrics.rmse(reference, candidate),
        nrmse=metrics.nrmse(reference, candidate),
        norm_ratio=metrics.norm_ratio(reference, candidate),
    )


def _judge_numbers(numbers: OutputNumbers) -> list[Finding]:
    if not np.isfinite(numbers.min_cosine):
        return [
            Finding(
                Status.FAIL_NAN,
                Stage.COMPARE,
                f"The cosine of output {numbers.name!r} is not a number: an image's output is all "
                "zero on one side, so it has no direction to compare.",
            )
        ]
    error = metrics.error_rate_percent(numbers.min_cosine)
    if error < ERROR_RATE_LIMIT_PERCENT:
        return []
    return [
        Finding(
            Status.FAIL_ACCURACY,
            Stage.COMPARE,
            f"Output {numbers.name!r}: error rate of the worst image {error:.4g} %, allowed is "
            f"less than {ERROR_RATE_LIMIT_PERCENT} %; greatest absolute difference "
            f"{numbers.max_abs_error:.4g} at index {list(numbers.max_abs_index)}.",
        )
    ]


def _judge_gate(gate: DocumentedGate) -> list[Finding]:
    found = []
    if not gate.error_rate_percent < ERROR_RATE_LIMIT_PERCENT:
        bad = min(gate.rows, key=lambda row: row.cosine)
        found.append(
            Finding(
                Status.FAIL_ACCURACY,
                Stage.COMPARE,
                f"Error rate {gate.error_rate_percent:.4g} % (softmax probabilities), allowed is "
                f"less than {ERROR_RATE_LIMIT_PERCENT} %; worst is image {bad.image} "
                f"({bad.label}) with cosine {bad.cosine:.6f}.",
            )
        )
    flipped = [row for row in gate.rows if not row.match]
    if flipped:
        first = flipped[0]
        found.append(
            Finding(
                Status.FAIL_ACCURACY,
                Stage.COMPARE,
                f"Top-1 differs for {len(flipped)} of {gate.images} images; first is image "
                f"{first.image} ({first.label}): CPU {first.cpu_top1}, device "
                f"{first.device_top1}, the CPU's margin is {first.margin:.4g} logits and the "
                f"greatest logit error {first.max_abs_error:.4g}.",
            )
        )
    return found


def _judge_discrimination(measured: metrics.Discrimination) -> list[Finding]:
    if measured.images < 2:
        reason = (
            "One image only: nothing shows that the output depends on the image. Give two or more."
        )
    elif not measured.max_cosine < DISCRIMINATION_LIMIT:
        reason = (
            f"Two different images give softmax outputs with cosine {measured.max_cosine:.6f} on "
            f"the CPU ({measured.distinct_top1} different Top-1 in {measured.images} images): the "
            "documented gate could not tell them apart, so its pass means nothing. Use other "
            "images or weights that discriminate."
        )
    else:
        return []
    return [Finding(Status.INCONCLUSIVE, Stage.COMPARE, reason)]
