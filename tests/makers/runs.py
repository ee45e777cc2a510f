"""Whole runs of the harness, each in a process of its own."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from harness.records import results_file
from harness.records.lines import CaseRecord
from harness.system.files import ROOT


@dataclasses.dataclass
class Finished:
    """A harness run that ended."""

    code: int
    text: str
    results: Path

    @property
    def run(self) -> results_file.Run:
        return results_file.read(self.results / "results.jsonl")

    @property
    def cases(self) -> dict[str, CaseRecord]:
        return {case.case.model.name: case for case in self.run.cases}


def run_harness(
    folder: Path,
    cache: Path,
    *options: str,
    cases: str | None = None,
    env: dict[str, str] | None = None,
) -> Finished:
    """Run `cases` (the text of a case file) with these options; results go below `folder`."""
    if cases is not None:
        path = folder / "cases.toml"
        path.write_text(cases, encoding="utf-8")
        options = (*options, "--case-file", str(path))
    results = folder / "results"
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "--results", str(results), *options,
         "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "HARNESS_CACHE_DIR": str(cache), **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout + done.stderr, results)
