"""How much of the host's memory a case takes, known before it is run.

All processes of a run together.  One copy of the weights in float32 (W) is what everything else is
counted in, beside the tensors of the largest operator of one batch (A) and the images (I).  The
phases follow each other, and each frees what it held:

- weights are made: the model in float64 (2 W), and its activations of the images by which they are
  set, in float64;
- a side loads the model: W, and the pages of the file that it is copied from (W); then the forward
  passes.  The float64 oracle widens weights operator by operator, and is counted so;
- operators one by one, or localisation: W on the host, the layers in use on the device, and
  the operator on both sides in float32 and float64;
- in a short dtype the shares of the error: W three times, and every activation of some images, with
  what its rounding changed.

A model of up to `KEPT` bytes is also held by the CPU's side while the device's works, a larger one
from leg to leg alone.  The numbers are bounds above what was measured (docs/large-runs.md); a
device with memory of its own takes less.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness.cases import architectures, sizes
from harness.cases.case import Case

# Bytes of the greatest model that the CPU's side keeps while the device's works.
KEPT = 2 << 30
# Weights of the greatest model of which shares are measured, those from which on with few images,
# and those up to which all eight are in one pass.
MOST_SHARED, LARGE_SHARED, _SMALL_SHARED = 1e9, 1e8, 2e7
IMAGES_OF_LARGE = 2
# Bytes of three processes with torch, timm and a device's libraries, whatever the model.
_PROCESSES = 1.2e9
# Images by which weights are set, and what a layer makes of them in float64, in A of one image.
_MAKING_IMAGES = 32
_MAKING = 1.8
# In A of a batch: forward passes (the oracle's in float64), and operators on both sides.
_FORWARDS = 5.0
_OPERATORS = 10.0
_LAYERS = 0.27e9  # of weights on the device meanwhile
# In A of one image: all activations of a model, and what their rounding changed.
_SHARES = 2 * 40.0
_IMAGES = 5.0  # on the host and the device, and in float64


@dataclasses.dataclass(frozen=True)
class Way:
    """How a case is run, as far as its memory depends on it.

    `made`: the weights are there; `operators`: operators one by one, or localisation.
    """

    made: bool
    operators: bool


def needed(case: Case, way: Way) -> int | None:
    """Bytes that all processes take at most; None for a model of unknown size."""
    _, rows = architectures.table()
    found = rows.get((sizes.architecture(case.model) or "").partition(".")[0])
    if found is None or found.largest is None:
        return None
    weights = 4.0 * found.parameters
    if case.model.kind == "directory":
        weights = max(weights, _stored(Path(case.model.ref)))
    batch = 4.0 * found.largest * case.batch_size
    channels, height, width = found.input_size
    images = _IMAGES * 4.0 * case.inputs.count * channels * height * width
    kept = weights if weights <= KEPT else 0.0
    phases = [2 * weights + kept + _FORWARDS * batch]
    if way.operators:
        phases.append(weights + kept + _LAYERS + _OPERATORS * batch)
    short = case.dtype != "float32" or case.numerics == "default"
    if short and found.parameters <= MOST_SHARED:
        together = shared_together(found.parameters)
        phases.append(3 * weights + kept + _SHARES * 4.0 * found.largest * together)
    if not way.made:
        phases.append(2 * weights + _MAKING * 8.0 * found.largest * _MAKING_IMAGES)
    return int(_PROCESSES + images + max(phases))


def shared_together(weights: float) -> int:
    """Images of which shares keep the activations at once."""
    if weights > LARGE_SHARED:
        return IMAGES_OF_LARGE
    return 8 if weights <= _SMALL_SHARED else 4


def _stored(directory: Path) -> int:
    """Bytes of the weights in a model directory."""
    try:
        return sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    except OSError:
        return 0
