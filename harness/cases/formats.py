"""The formats that models are run in, each a dtype and a numerics profile."""

from __future__ import annotations

from harness.cases.case import Case, InputSource, ModelSource
from harness.system.status import UsageProblem

# Format -> dtype and numerics profile of its cases.
FORMATS = {
    "strict": ("float32", "strict"),
    "default": ("float32", "default"),
    "float16": ("float16", "strict"),
    "bfloat16": ("bfloat16", "strict"),
}


def dtype_and_numerics(format_name: str) -> tuple[str, str]:
    """Of a format's cases.  Raises UsageProblem for a format that is none."""
    if format_name not in FORMATS:
        raise UsageProblem(f"Unknown format {format_name!r}: give {', '.join(FORMATS)}.")
    return FORMATS[format_name]


def case_of(model: ModelSource, inputs: InputSource, format_name: str) -> Case:
    """The case of a model on inputs in a format.  Raises UsageProblem as above."""
    dtype, numerics = dtype_and_numerics(format_name)
    return Case(model, inputs, dtype=dtype, numerics=numerics)
