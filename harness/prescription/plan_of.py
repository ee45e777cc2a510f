"""A prescription as a plan that a file keeps."""

from __future__ import annotations

from harness.cases.precision_plans import PrecisionPlan
from harness.prescription.prescribe import Prescription


def plan_of(found: Prescription) -> PrecisionPlan | None:
    """The plan that was chosen; None where that keeps nothing in float32."""
    best = found.tries[found.chosen]
    if not best.modules:
        return None
    return PrecisionPlan.model_validate(
        {
            "model": found.case.model.name,
            "weights_sha256": found.weights_sha256,
            "dtype": found.case.dtype,
            "modules": list(best.modules),
            "target": found.target,
            "device": found.device.shown,
            "emulated": found.device.emulated,
            "observed": {name: v for name, v in best.observed.items() if name in found.target},
            "seconds": [found.tries[0].seconds, best.seconds],
        }
    )
