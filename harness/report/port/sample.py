"""The sample output of a port: its own inference.py, run on the CPU and on the device.

The script runs in processes of its own that know nothing of this harness; for an emulated device
alone the emulator is put in the place of CANN around it.  What it printed goes into the log as it
is, and the report shows nothing that was not run.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.system import environment, shown

_TIMEOUT = 600.0  # seconds, of one run
_TEMPLATE = Path(__file__).with_name("standalone.py")
_NAME = "MODEL_NAME"


def script(name: str) -> str:
    """The text of a port's inference.py; `name`: of the model's directory, as shown to readers."""
    plain = "".join(char if char.isprintable() and char not in '\\"' else "_" for char in name)
    return _TEMPLATE.read_text(encoding="utf-8").replace(_NAME, plain)


@dataclasses.dataclass(frozen=True)
class Ran:
    """One run of the script.

    `command`: as a reader types it; `code`: exit code, None where it did not end in time;
    `document`: what it says of itself (`--json`), None where it ended before.
    """

    command: str
    code: int | None
    output: str
    errors: str
    document: dict[str, Any] | None = None

    @property
    def why(self) -> str:
        """Why there is no result: the last line that it printed."""
        lines = [line for line in self.errors.splitlines() if line.strip()]
        if self.code is None:
            return f"no answer within {_TIMEOUT:g} s"
        return shown.line(lines[-1][:300]) if lines else f"exit code {self.code}"

    @property
    def log(self) -> str:
        """Command, output and exit code, as text."""
        parts = [f"$ {self.command}", self.output.rstrip(), self.errors.rstrip()]
        return "\n".join([*filter(None, parts), f"[exit code {self.code}]"])


@dataclasses.dataclass(frozen=True)
class Sample:
    """Both runs; `problem`: why there are none, a key of the report's texts, with `detail`."""

    cpu: Ran | None = None
    device: Ran | None = None
    emulated: bool = False
    problem: str = ""
    detail: str = ""

    @property
    def results(self) -> list[dict[str, Any]] | None:
        """What the device gave for each image; None where it gave nothing."""
        found = self.device
        if found is None or found.code != 0 or found.document is None:
            return None
        return list(found.document["results"])


def run(written: Path, directory: Path, device: str, extra: Sequence[str]) -> Sample:
    """Run the script that was written, on the CPU and on a device ("npu:0", "npu-emulated:0").

    `directory`: of the model; `extra`: further arguments, such as keys that may be missing.
    """
    emulated = device.startswith("npu-emulated")
    on_device = "npu" if emulated else device
    if device.partition(":")[0] == "cpu":
        return Sample(problem="sample.no_device")
    on_cpu = _one(written, directory, "cpu", extra, emulated=False)
    there = _one(written, directory, on_device, extra, emulated=emulated)
    return Sample(on_cpu, there, emulated)


def _one(
    written: Path,
    directory: Path,
    device: str,
    extra: Sequence[str],
    *,
    emulated: bool,
) -> Ran:
    arguments = ["--model_path", str(directory), "--device", device, *extra]
    public = ["python", written.name, "--model_path", f"./{directory.name}", "--device", device]
    command = [sys.executable, str(written)]
    if emulated:
        command = [sys.executable, "-m", "harness", "emulate", str(written), "--"]
        public = ["python", "-m", "harness", "emulate", written.name, "--", *public[2:]]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        try:
            done = subprocess.run(
                [*command, *arguments, "--json", str(result)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT,
                env={**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Ran(shlex.join([*public, *extra]), None, "", "")
        document = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else None
    output, errors = (
        environment.redacted(shown.lines(text.replace(str(directory), f"./{directory.name}")))
        for text in (done.stdout, done.stderr)
    )
    return Ran(shlex.join([*public, *extra]), done.returncode, output, errors, document)
