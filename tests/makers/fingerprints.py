"""Fingerprints of devices, made of records."""

import datetime

from harness.records.fingerprint import Fingerprint, FormatTraits, FunctionTraits
from harness.records.leg import DeviceInfo

TRAITS = {
    "mm": {
        "factors": "all bits",
        "order": "256 one after another [a4296453]",
        "last sums": "24 bits (float32), to nearest, ties to even",
        "repeats": "the same bits every time",
        "bits": "0" * 12,
    }
}


def fingerprint(
    kind="npu",
    *,
    form="tanh",
    ulp=1.0,
    bits="0" * 12,
    numerics=None,
    formats=("strict",),
    problems=(),
    chip="Ascend910B3",
    **mm,
) -> Fingerprint:
    """A fingerprint in some formats; `mm`: traits of the product that differ from `TRAITS`."""
    traits = {"mm": TRAITS["mm"] | {name.replace("_", " "): text for name, text in mm.items()}}
    one = FormatTraits(
        dtype="float32",
        numerics=numerics or {},
        traits=traits,
        functions={"gelu": FunctionTraits(form, ulp, 0.5, 0.2, bits)},
        problems=list(problems),
    )
    emulated = kind == "npu-emulated"
    return Fingerprint(
        taken=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        emulated=emulated,
        device=DeviceInfo(spec=f"{kind}:0", kind=kind, name=chip, emulated=emulated),
        environment={"torch": "2.8.0", "torch_npu": "2.8.0"},
        formats=dict.fromkeys(formats, one),
    )
