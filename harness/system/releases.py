"""The releases of torch_npu: the torch and CANN that each goes with.  Standard library alone.

`releases.csv` is torch_npu's own table of pairs, with the Python versions of its wheels and the
torchvision of each torch; `cann` is empty where that table names none.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

_TABLE = Path(__file__).with_name("releases.csv")
# torch_npu imports these without asking pip for them.
UNDECLARED = ("pyyaml", "decorator", "attrs", "psutil")
# torch_npu's compatibility matrix marks each of its series as going with each of these.
CANN_OF_ALL = ("8.3", "8.5", "9.0", "9.1")
_VERSION = re.compile(r"(\d+\.\d+\.\d+)(?:\.?(?:post|rc|dev)\d+)*(?:\+[\w.]+)?")


@dataclasses.dataclass(frozen=True)
class Release:
    """One release of torch_npu; `pythons`: "3.11", ..., empty where that is not known."""

    torch_npu: str
    torch: str
    torchvision: str
    cann: str
    pythons: tuple[str, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """For sorting: newer is greater."""
        return tuple(map(int, re.findall(r"\d+", self.torch_npu)))


def known() -> list[Release]:
    """Every release of the table, oldest first."""
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        _, *rows = csv.reader(stream)
    return [Release(a, b, c, d, tuple(pythons.split())) for a, b, c, d, pythons in rows]


def torch_of(torch_npu: str) -> str | None:
    """The torch that a torch_npu is made for, local versions too; None for what is no version."""
    match = _VERSION.fullmatch(torch_npu)
    return match[1] if match else None


def find(torch_npu: str) -> Release | None:
    """A release by its name, its local version aside; one that the table lacks by its torch.

    None for what is no version.
    """
    torch = torch_of(torch_npu)
    if torch is None:
        return None
    name, table = torch_npu.partition("+")[0], known()
    own = next((row for row in table if row.torch_npu == name), None)
    near = next((row for row in table if row.torch == torch), None)
    return own or Release(name, torch, near.torchvision if near else "", "", ())


def of_cann(version: str, python: str, newest: tuple[int, ...] = (2, 10)) -> Release | None:
    """The release for a CANN: of those documented with it, with its series, or of all, the newest.

    `version`: as CANN's installer wrote it, "8.5.1"; `python`: "3.11"; `newest`: series of torch
    beyond which none is taken.  None where no wheel is.
    """
    series = ".".join(version.split(".")[:2])
    fit = [
        row for row in known()
        if python in row.pythons and tuple(map(int, row.torch.split(".")[:2])) <= newest
    ]  # fmt: skip
    exact = [row for row in fit if row.cann and version.startswith(row.cann)]
    near = [row for row in fit if ".".join(row.cann.split(".")[:2]) == series]
    return max(exact or near or fit, key=lambda row: row.order, default=None)


def cann_fits(torch_npu: str, cann: str) -> bool:
    """Whether torch_npu's matrix has a CANN beside a release; unknown releases fit."""
    return cann.startswith(CANN_OF_ALL) or find(torch_npu) is None
