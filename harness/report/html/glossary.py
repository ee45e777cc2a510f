"""What the numbers of the report are: unit and formula, shown where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_ORACLE = "x: float64 run of the same model on the same images, gelu in the device's form"

MEANING: Mapping[str, str] = {
    "mean cosine similarity": "Mean over the images of <p, q> / (|p| |q|); p, q: softmax "
    "probabilities on CPU and device. No unit; 1 is equal direction.",
    "cosine": "<p, q> / (|p| |q|) of this image; p, q: softmax probabilities on CPU and device.",
    "MAE": "Mean of |p - q| over all images and classes; p, q: softmax probabilities.",
    "error rate": "(1 - mean cosine similarity) x 100 %. Required: below 1 %.",
    "Top-1 agreement": "Share of images whose most probable class is the same on both sides.",
    "Top-1": "Images whose most probable class is the same on both sides, of all images.",
    "match": "Whether the most probable class is the same on both sides.",
    "budget ratio": "rmse(device - x) / rmse(budget - x); budget: an honest CPU run in the "
    f"arithmetic that the device declares; {_ORACLE}. 1 is honest rounding.",
    "worst image": "The greatest budget ratio of a single image.",
    "worst channel": "The greatest budget ratio of a class, channel, row or token over all images.",
    "allowed": "Greatest budget ratio that passes: 3, and 10 in exact float32.",
    "nrmse device": f"rmse(device - x) / spread of x between the images; {_ORACLE}.",
    "nrmse CPU": f"rmse(CPU - x) / spread of x between the images; {_ORACLE}.",
    "nrmse budget": f"rmse(budget - x) / spread of x between the images; {_ORACLE}.",
    "rmse device": f"Root mean square of device - x, in the unit of the output; {_ORACLE}.",
    "rmse CPU": f"Root mean square of CPU - x, in the unit of the output; {_ORACLE}.",
    "max abs device": f"Greatest |device - x|, in the unit of the output; {_ORACLE}.",
    "max abs CPU": f"Greatest |CPU - x|, in the unit of the output; {_ORACLE}.",
    "smallest cosine": "Smallest cosine of an image's raw output between CPU and device.",
    "max abs": "Greatest |device - CPU|, in the unit of the output.",
    "mean abs": "Mean |device - CPU|, in the unit of the output.",
    "rmse": "Root mean square of device - CPU, in the unit of the output.",
    "nrmse": "rmse / spread of x between the images, x = the CPU in float64. No unit.",
    "norm ratio": "|device| / |CPU|, Euclidean. No unit; 1 is equal length.",
    "own error": "rms(device - exact) of this operator on the reference's input.",
    "own budget": "rms that honest rounding in the declared arithmetic costs this operator.",
    "own ratio": "own error / own budget; a culprit has more than 3, or more than 4 in a slice.",
    "worst slice": "The greatest own ratio of any slice along any dimension, and where it is.",
    "inherited error": "rms(device - reference) of the activation in the device's own forward "
    "pass.",
    "inherited budget": "The inherited error of an honest CPU run in the declared arithmetic.",
    "cause": "A rounding: of an operator's result, of a weight, of the input. CULPRIT: what "
    "operators beyond their limits cause.",
    "share of the mean square error": "What this rounding causes in the output, mean square to "
    "first order, over the sum of all. Of a culprit: 1 - (rmse of the budget / rmse of "
    "the device)^2.",
    "block": "What the model repeats, by its path.",
    "share": "Sum of the shares of all roundings in the block.",
    "CPU Top-1 margin": "Greatest minus second greatest logit on the CPU.",
    "greatest logit error": "Greatest |device - CPU| of the image's logits.",
    "logit spread between images": "Root mean square of the logits' deviation from their mean over "
    "the images.",
    "greatest cosine between two different images": "Cosine of the softmax probabilities of two "
    "different images on the CPU; from 0.99 on no gate can tell them apart.",
    "port protocol": "What ports of timm models to Ascend publish, after the port of google/"
    "efficientnet-b0 to Ascend 910B3: six synthetic images, batch 8, softmax probabilities of CPU "
    "and NPU compared; error rate below 1 % and equal Top-1 are its gate.",
    "max cosine between images": "Cosine of the softmax probabilities of two different images on "
    "the CPU; from 0.99 on no gate can tell them apart.",
    "smallest Top-1 margin (logits)": "Smallest difference of the two greatest logits of an image.",
    "images/s": "Batch size over the mean latency; every timed call counts. Copies are apart.",
    "images/s, 95 %": "95 % interval, from the mean latency's (batch means, Student's t).",
    "mean [ms]": "Mean latency of a forward, synchronised before and after, in milliseconds.",
    "p50 [ms]": "Median latency of a forward, in milliseconds.",
    "p50, 95 % [ms]": "95 % interval of the median: order statistics, widened by the dependence of "
    "one call on the next; in milliseconds.",
    "p90 [ms]": "Latency that 10 % of the calls exceed, in milliseconds.",
    "p95 [ms]": "Latency that 5 % of the calls exceed, in milliseconds.",
    "p99 [ms]": "Latency that 1 % of the calls exceed, in milliseconds.",
    "repeats": "Timed calls, after the warm-up.",
    "outliers": "Calls beyond 1.5 interquartile ranges outside the quartiles. They are in every "
    "number.",
    "precision": "Half width of the median's 95 % interval over the median.",
    "speed-up, 95 %": "95 % interval of the ratio of the two medians (MOVER on the logarithms).",
    "CPU setting": "Threads and memory format, the fastest that were tried.",
    "first call [ms]": "The first forward after the model was loaded, with whatever is built or "
    "compiled then, in milliseconds.",
    "warm-up calls": "Calls before the timed ones, until the medians of two windows of five agree "
    "within 5 %.",
    "stable": "Whether they came to agree.",
    "events p50 [ms]": "Median of the same forwards between two events on the device's clock, in "
    "milliseconds.",
    "copy in [ms]": "Median of copying the images from the host's memory to the device, in "
    "milliseconds; in no latency.",
    "copy out [ms]": "Median of copying all outputs back, in milliseconds; in no latency.",
    "cores busy": "Processor seconds of the process over wall seconds of the timed calls; "
    "fewer than the threads where the CPU had to be shared.",
    "peak device memory [MiB]": "Greatest memory allocated for tensors (2^20 bytes), as PyTorch's "
    "allocator counts; kernels' workspaces are not in it.",
    "reserved device memory [MiB]": "Greatest memory that PyTorch's allocator took from the device "
    "(2^20 bytes).",
    "peak host memory [MiB]": "Greatest resident set of the whole process meanwhile (2^20 bytes).",
    "host memory before [MiB]": "Resident set of the process when it began (2^20 bytes).",
    "trial [ms]": "Median of a few forwards, in milliseconds (torch.utils.benchmark).",
    "trial [images/s]": "Batch size over that median.",
    "status": "The verdict; README lists them all with their meaning.",
    "stage": "Where a case that did not pass ended; complete for the others.",
    "device": "Name of the device that was compared with the CPU.",
    "case": "Id of the case: model, images, dtype, batch size, numerics profile.",
    "metric": "What was measured; each name says its formula on hover.",
    "item": "What the value is about.",
    "value": "The measured value, with its unit where it has one.",
    "image": "Number of the image in the set, from 0, or its name.",
    "name": "Name of the image.",
    "CPU Top-1": "Index of the most probable class on the CPU.",
    "NPU Top-1": "Index of the most probable class on the device.",
    "output": "Name of an output of the model; forward_features: the activations before pooling.",
    "shape": "Dimensions of the output, images first.",
    "shapes": "Dimensions of the operator's inputs -> of its results.",
    "inputs": "Dimensions of the operator's inputs.",
    "call": "Place of the operator in the order of execution, from 0.",
    "operator": "Name of the operator in PyTorch (aten).",
    "module": "Path of the innermost module that calls the operator.",
    "arithmetic": "Declared arithmetic of the operator, and layout of its first input.",
    "culprit": "The operator whose own error no honest rounding explains. As CANN computes it: "
    "the result is that of the method which CANN publishes for the operator, within the limits of "
    "a culprit; the case fails all the same.",
    "ratio": "rms(device - exact) of this operator on the reference's input / the same of honest "
    "rounding. No unit.",
    "level of the worst": "Level of CANN's withdrawn commercial standard (opbase, commit 6049643) "
    "that the worst call reaches: L2 for quotients of MARE, MERE and RMSE up to 2, 1.2, 1.2, L1 up "
    "to 5, 1.5, 1.5, L0 up to 10, 2, 2. Moves: bits equal.",
    "calls": "How often the model calls the operator, of the calls that were compared.",
    "levels": "How many calls reach which level.",
    "MARE ratio": "max |x - golden| / (|golden| + 1e-7) of the device / the same of the CPU in the "
    "declared arithmetic; golden: float64. Of the worst call.",
    "MERE ratio": "The same quotient with the mean in the place of the maximum.",
    "RMSE ratio": "The same quotient of sqrt(mean (x - golden)^2).",
    "small values": "Elements whose golden value is too small for a relative error.",
    "small value ratio": "Small values with too great an error on the device / on the CPU (at "
    "least 1); the standard allows 2.",
    "ecosystem rule": "Calls that meet CANN's standard in force (opbase, commit adbe441): 99 % of "
    "the elements within atol + rtol |golden|, none above a cap.",
    "vendor's CPU test": "Whether torch_npu's own tests leave the operator out of their comparison "
    "with the CPU in float32 (op-plugin, test/unsupported_ops_info_base.yaml).",
    "NaN, Inf": "Number of NaN and infinite values in the operator's result.",
    "NPU throughput": "Images per second through the device: images / median time of a pass.",
    "CPU throughput": "Images per second through the CPU: images / median time of a pass.",
    "CPU/NPU speed-up": "Throughput of the device / throughput of the CPU. No unit.",
    "different Top-1 classes": "How many different classes the CPU finds most probable.",
    "greatest probability": "Greatest softmax probability of any image and class on the CPU.",
    "fault": "Planted fault, and where in the depth of the model.",
    "where": "Operator and module in which the fault was planted.",
    "protocol's gate": "What error rate below 1 % and equal Top-1 alone say of the fault.",
    "this harness": "The status that the whole verdict gives to the fault.",
    "outcome": "The case beside its expected row: as expected, known, better, worse, new, updated.",
    "what the row allows": "Known failure, or what a reason in the row loosens.",
    "reason": "Why the row allows it.",
    "link": "Where it is explained.",
    "old": "In the older run.",
    "new": "In this run.",
    "change": "What became of the case between the two runs.",
    "images' error, new / old": "Geometric mean over the images of the new budget ratio / the old "
    "one, with its 95 % interval. No unit.",
    "judged by": "What decided whether the change is more than noise.",
    "is it a change?": "Whether the 95 % interval leaves out 1.",
    "CPU, as a control": "Throughput of the CPU, new / old, with its 95 % interval: nothing but "
    "the host changed there.",
    "timed forwards": "Number of timed passes over the images.",
    "number": "Name of the number where it stands.",
    "meaning": "Unit, formula and limit of the number.",
}

# The same word in another table: beginning of the table's title, word, meaning.
_ELSEWHERE = (
    ("Throughput, new / old", "device", "Throughput of the device, new / old, with its 95 % "
     "interval. No unit."),
    ("Where it goes wrong", "ratio", "own error / own budget"),
)  # fmt: skip
_SPEED_UP = re.compile(r"cpu/\w+ speed-up")
_FAIR = "Median latency of the CPU at its best setting / that of the device, same batch. No unit."
# Words that hold a name: the device's kind, versions.
_FAMILIES = (
    (re.compile(r"\w+ top-1"), "NPU Top-1"),
    (re.compile(r"\w+ throughput"), "NPU throughput"),
    (_SPEED_UP, "CPU/NPU speed-up"),
    (re.compile(r"error rate, %"), "error rate"),
)
_VERSIONS = re.compile(r"(torch_npu|cann|torch|timm) .*|versions unknown")
_FOLDED = {name.casefold(): text for name, text in MEANING.items()}


def meaning(word: str, title: str = "") -> str:
    """Unit and formula of a column or row; "" for what is none.  `title`: of its table."""
    folded = word.casefold()
    for start, other, text in _ELSEWHERE:
        if folded == other and title.startswith(start):
            return text
    if title.startswith("Speed-up: median latency") and _SPEED_UP.fullmatch(folded):
        return _FAIR
    if folded in _FOLDED:
        return _FOLDED[folded]
    for pattern, name in _FAMILIES:
        if pattern.fullmatch(folded):
            return MEANING[name]
    if title.startswith("Trend") and _VERSIONS.fullmatch(folded):
        return (
            "The newest run with these versions: status, budget ratio, error rate, throughput over "
            "the CPU's; how many runs there were."
        )
    return ""


def all_items() -> Iterator[tuple[str, str]]:
    """Every name with its meaning."""
    yield from MEANING.items()
