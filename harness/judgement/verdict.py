"""Limits applied to outputs: structure first, finiteness second, numbers last.

Pure functions over NumPy arrays; nothing here knows a device or pytest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from harness.judgement import (
    batchings,
    budget,
    by_operators,
    comparable,
    exceeded,
    image_errors,
    metrics,
    notes,
    separation,
    whole_numbers,
)
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.batchings import WrongBatching
from harness.judgement.budget import Allowance, Budget, OutputBudget
from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT, DocumentedGate, documented_gate
from harness.judgement.image_errors import ElementRule, ImageErrors
from harness.judgement.metrics import Array
from harness.judgement.operator_rows import OperatorCheck
from harness.judgement.separation import Separation
from harness.system.messages import Said, say
from harness.system.status import Finding, Stage, Status, worst

# Named in every record, which is held against these rules when it is read: raised with every
# change of a limit, a formula or a finding.
RULES = "4"

# Outputs of different images more alike than this cannot be told apart by the protocol's gate:
# with an error rate limit of 1 % (cosine 0.99), swapping two such images would still pass it.
DISCRIMINATION_LIMIT = 1.0 - ERROR_RATE_LIMIT_PERCENT / 100.0

_WHOLE_NUMBERS = say(
    "whole.only", "Its outputs are whole numbers: nothing shows how near they come to others."
)
_ONE_INPUT = say("input.one", "One input only: nothing shows that the outputs depend on it.")


@dataclasses.dataclass(frozen=True)
class OutputNumbers:
    """Errors of one output of the model, device against CPU."""

    name: str
    shape: tuple[int, ...]
    min_cosine: float  # smallest over the images, on the raw output; 0 for zero on one side alone
    max_abs_error: float
    max_abs_index: tuple[int, ...]
    mean_abs_error: float
    rmse: float
    nrmse: float  # rmse / spread of the float64 output between the images
    norm_ratio: float
    sample: metrics.PairedSample | None = None  # None: a record from before there was one
    images: tuple[ImageErrors, ...] = ()  # one a row, as above
    elements: ElementRule | None = None  # None: no honest run to hold it against


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on; arrays are [N, ...], N = number of images.

    `reference`, `candidate`: output name -> array of the CPU and of the device, in the case's
    dtype; `oracle`: the CPU in float64, with GELU in the form that the device declares; `as_asked`:
    in the form that the model asks for, where that is another; `budget`: honest CPU runs in the
    arithmetic that the device declares.  `logits`: name of the classifier output [N, C], or None
    for a model without classifier: then the protocol's gate, which is about classes, does not
    apply.  `labels`: one name per image.  `operators`: the device's operators one by one, where
    that was asked for.  `variants`: the device's outputs for other ways to batch the same images.
    `own`: of a module of the user's own, which may have but one input: its operators can stand for
    what other inputs would show (`by_operators`).
    """

    reference: Mapping[str, Array]
    candidate: Mapping[str, Array]
    logits: str | None
    labels: Sequence[str]
    oracle: Mapping[str, Array]
    budget: Budget
    as_asked: Mapping[str, Array] | None = None
    variants: Mapping[str, Mapping[str, Array]] = dataclasses.field(default_factory=dict)
    operators: OperatorCheck | None = None
    remedy: str = ""
    own: bool = False


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Outcome of a comparison with all its reasons and every number that could be taken.

    `notes` were seen and are no reason against the case.  `wrong_batching`: where every output is
    right in its own batch and wrong in another.
    """

    findings: tuple[Finding, ...]
    gate: DocumentedGate | None = None
    outputs: tuple[OutputNumbers, ...] = ()
    discrimination: metrics.Discrimination | None = None
    separation: Separation | None = None
    arithmetic: str = ""
    budgets: tuple[OutputBudget, ...] = ()
    notes: tuple[Said, ...] = ()
    wrong_batching: WrongBatching | None = None

    @property
    def status(self) -> Status:
        """The finding that wins; `pass` only when there is none."""
        return worst(f.status for f in self.findings) if self.findings else Status.PASS

    @property
    def about_device(self) -> bool:
        """Whether the device gave a reason: operators can tell why, unlike for dull images."""
        return any(finding.stage is not Stage.REFERENCE for finding in self.findings)

    @property
    def leading(self) -> Finding | None:
        """The finding that gave the status."""
        return next((f for f in self.findings if f.status is self.status), None)


def judge(evidence: Evidence) -> Verdict:
    """Judge the device's outputs: structure, then finiteness, then numbers."""
    structural = comparable.mismatches(evidence.reference, evidence.candidate, len(evidence.labels))
    if structural:
        return Verdict(tuple(structural))
    broken = comparable.nonfinite(evidence.reference, evidence.candidate)
    if broken:
        return Verdict(tuple(broken))

    exactly, equal = _judge_whole_numbers(evidence)
    evidence = _in_float64(_of_floats(evidence))
    if not evidence.reference:
        found, said = [Finding(Status.INCONCLUSIVE, Stage.REFERENCE, _WHOLE_NUMBERS)], equal
        if evidence.own:
            found, said = by_operators.judge(evidence.operators, _WHOLE_NUMBERS)
            said = equal + said
        found += exactly + exceeded.judge_operators(evidence.operators)
        arithmetic = str(evidence.budget.arithmetic)
        return Verdict(tuple(found), arithmetic=arithmetic, notes=tuple(said))
    reference, candidate, logits = evidence.reference, evidence.candidate, evidence.logits
    allowed = {name: _allowance(evidence, name) for name in reference}
    budgets = tuple(budget.compare(name, candidate[name], allowed[name]) for name in reference)
    findings = exactly
    findings += [f for b in budgets for f in exceeded.judge_budget(b, evidence.budget.arithmetic)]
    right = {row.name for row in budgets if row.within}
    of_batchings, wrong_batching = batchings.judge(evidence.variants, reference, allowed, right)
    findings += of_batchings
    findings += exceeded.judge_operators(evidence.operators)
    honest = evidence.budget.runs[-1]
    outputs = tuple(
        _numbers(name, reference[name], candidate[name], allowed[name].spread, honest[name])
        for name in reference
    )
    declared = evidence.budget.arithmetic
    remarks = equal + notes.of_form(declared.gelu, evidence.as_asked, allowed, evidence.remedy)
    remarks += notes.of_format(declared, budgets, evidence.operators)
    gate = discrimination = None
    if logits is not None:
        gate = documented_gate(reference[logits], candidate[logits], evidence.labels)
        discrimination = metrics.discrimination(reference[logits])
        if metrics.is_distribution(reference[logits]):
            remarks.append(
                say(
                    "probabilities",
                    "Output {name!r} holds probabilities already: they are compared as they are, "
                    "without another softmax.",
                    name=logits,
                )
            )
        as_asked = None if evidence.as_asked is None else evidence.as_asked[logits]
        flips, explained = exceeded.judge_flips(
            reference[logits], candidate[logits], as_asked, gate, allowed[logits]
        )
        findings, remarks = findings + flips, remarks + explained
    # What the format or the images cannot show leads a gate that fails for the same cause.
    apart = separation.separation(allowed)
    within = not findings
    if apart is None and evidence.own:
        found, said = by_operators.judge(evidence.operators, _ONE_INPUT)
        findings, remarks = findings + found, remarks + said
    else:
        findings += separation.judge(apart, evidence.labels, budgets, str(declared))
    if gate is not None:
        findings += exceeded.judge_gate(gate, within=within)
    if apart is not None and apart.distance > separation.SEPARATION_LIMIT:
        remarks += separation.blindness(discrimination, DISCRIMINATION_LIMIT)
    return Verdict(
        findings=tuple(findings),
        gate=gate,
        outputs=outputs,
        discrimination=discrimination,
        separation=apart,
        arithmetic=str(declared),
        budgets=budgets,
        notes=tuple(remarks),
        wrong_batching=wrong_batching if len(right) == len(budgets) else None,
    )


def judge_without_oracle(
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    samples: int,
    operators: OperatorCheck | None,
    arithmetic: Arithmetic,
    why: Said,
) -> Verdict:
    """Judge a module that does not run in float64 by its operators; `why`: the reason, a sentence.

    `reference`, `candidate`: [N, ...] of both sides, N = `samples`.
    """
    structural = comparable.mismatches(reference, candidate, samples)
    broken = structural or comparable.nonfinite(reference, candidate)
    if broken:
        return Verdict(tuple(broken))
    exactly, equal = whole_numbers.judge(reference, candidate, (), {})
    floats = whole_numbers.without(reference, whole_numbers.names(reference))
    outputs = tuple(
        _numbers(name, values, candidate[name], metrics.spread(values))
        for name, values in floats.items()
    )
    findings, said = by_operators.judge(operators, why)
    findings = [
        *exceeded.judge_operators(operators),
        *exactly,
        *(
            finding
            for numbers in outputs
            for finding in exceeded.judge_zeros(numbers.name, numbers.norm_ratio)
        ),
        *findings,
    ]
    return Verdict(
        tuple(findings), outputs=outputs, arithmetic=str(arithmetic), notes=(*equal, *said)
    )


def judge_batch(evidence: Evidence, outputs: Mapping[str, Array], batch_size: int) -> list[Finding]:
    """What is wrong in batches of another size; row r of `outputs` is of image r modulo N."""
    whole = whole_numbers.names(evidence.reference)
    exactly, _ = _judge_whole_numbers(dataclasses.replace(evidence, candidate=outputs, variants={}))
    evidence = _of_floats(evidence)
    allowed = {name: _allowance(evidence, name) for name in evidence.reference}
    given = {"full": whole_numbers.without(outputs, whole)}
    found, _ = batchings.judge(given, evidence.reference, allowed, set(allowed))
    english = "batch {size}, which was timed: {reason}"
    return [
        dataclasses.replace(
            one, reason=say("batch.timed", english, size=batch_size, reason=one.said)
        )
        for one in exactly + found
    ]


def _judge_whole_numbers(evidence: Evidence) -> tuple[list[Finding], list[Said]]:
    honest = [evidence.oracle, *evidence.budget.runs]
    honest += [evidence.as_asked] if evidence.as_asked is not None else []
    return whole_numbers.judge(evidence.reference, evidence.candidate, honest, evidence.variants)


def _of_floats(evidence: Evidence) -> Evidence:
    """The evidence without outputs of whole numbers."""
    whole = whole_numbers.names(evidence.reference)
    return dataclasses.replace(
        evidence,
        reference=whole_numbers.without(evidence.reference, whole),
        candidate=whole_numbers.without(evidence.candidate, whole),
        variants={way: whole_numbers.without(run, whole) for way, run in evidence.variants.items()},
    )


def _in_float64(evidence: Evidence) -> Evidence:
    """Both sides converted once: every formula would do it anew."""

    def convert(outputs: Mapping[str, Array]) -> dict[str, Array]:
        return {name: np.asarray(values, np.float64) for name, values in outputs.items()}

    return dataclasses.replace(
        evidence, reference=convert(evidence.reference), candidate=convert(evidence.candidate)
    )


def _numbers(
    name: str, reference: Array, candidate: Array, spread: float, honest: Array | None = None
) -> OutputNumbers:
    pair = metrics.Pair.of(reference, candidate)
    worst_element = pair.worst
    return OutputNumbers(
        name=name,
        shape=tuple(reference.shape),
        min_cosine=float(np.min(metrics.cosines_with_zeros(pair))),
        max_abs_error=worst_element.difference,
        max_abs_index=worst_element.index,
        mean_abs_error=pair.mean_absolute,
        rmse=pair.rmse,
        nrmse=metrics.quotient(pair.rmse, spread),
        norm_ratio=pair.norm_ratio,
        sample=metrics.paired_sample(pair),
        images=image_errors.of_images(pair),
        elements=None if honest is None else image_errors.element_rule(pair, honest),
    )


def _allowance(evidence: Evidence, name: str) -> Allowance:
    runs = [run[name] for run in evidence.budget.runs]
    return budget.allowance(
        evidence.oracle[name],
        evidence.reference[name] if evidence.as_asked is None else runs[0],  # of the same form
        runs,
        exact=evidence.budget.arithmetic.full,
    )
