"""The live view on a terminal."""

import json
import os
import pty
import subprocess
import sys

from harness.system.files import ROOT
from tests.makers.cases import entry


def test_a_terminal_shows_the_view_in_place_of_letters(copy_of, tmp_path, cache_dir):
    cases = tmp_path / "cases.toml"
    cases.write_text(entry(copy_of("a")), encoding="utf-8")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "--device", "cpu", "--case-file", str(cases),
         "--results", str(tmp_path / "results"), "-p", "no:cacheprovider"],
        cwd=ROOT, stdout=theirs, stderr=theirs, stdin=theirs,
        env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait() == 0, text.decode()
    (id_,) = [json.loads(line)["case_id"] for line in
              (tmp_path / "results" / "results.jsonl").read_text(encoding="utf-8").splitlines()
              if '"type":"case"' in line]  # fmt: skip
    shown = text.decode().partition("test session starts")[2].partition("accuracy =")[0]
    assert "0 of 1 cases" in shown
    assert f"s {id_}" in " ".join(shown.split())
    assert "test_accuracy.py" not in shown and "[100%]" not in shown
