"""Any text in any field of a record: no traceback, no control character, no path outside."""

import contextlib
import io
import json
import unicodedata

import hypothesis
from hypothesis import strategies as st

from harness.entry.commands.main import main
from harness.judgement.localization import Localization
from harness.system.status import Finding, Stage, Status
from tests.makers.records import leg, measured, run_record

TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "\x1b]0;x\x07",
        "\u202e",
        "::error::x",
        "../../x",
        "/etc/passwd",
        "a\nb",
        "`<b>|",
        "=1+1",
        "\0",
    ]
)
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
NUMBER = st.floats() | st.integers(-(2**70), 2**70) | st.sampled_from(["NaN", "-Infinity"])


def plain_record():
    finding = Finding(Status.FAIL_ACCURACY, Stage.COMPARE, "why")
    localization = Localization(reproducers=("reproducers/a/0001-x.py",))
    case = measured(
        status=Status.FAIL_ACCURACY, findings=[finding], notes=["n"], labels=["l"] * 6,
        candidate=leg("cpu"), reference=leg("cpu"), localization=localization, weights="w",
    )  # fmt: skip
    return json.loads(case.model_dump_json())


def leaves(value, path=()):
    """Paths of all texts and numbers."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in leaves(item, (*path, i))]
    return [path] if isinstance(value, (str, int, float)) else []


PATHS = [path for path in leaves(plain_record()) if path not in (("type",), ("schema_version",))]


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_any_field_of_a_record(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    raw = plain_record()
    for path in data.draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=4)):
        at = raw
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = data.draw(TEXT if isinstance(at[path[-1]], str) else NUMBER)
    own = json.loads(run_record(str(raw["case_id"]), data.draw(TEXT)).model_dump_json())
    (folder / "run").mkdir()
    text = "".join(json.dumps(line) + "\n" for line in (own, raw))
    (folder / "run" / "results.jsonl").write_text(text)
    run = str(folder / "run")
    commands = [["report", run, "--format", form] for form in ("text", "markdown", "csv")]
    commands += [["merge", run, "--output", str(folder / "whole")], ["compare", run, run]]
    for command in commands:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            assert main(command) in (0, 1, 4, 10, 11, 12)
        unseen = {char for char in shown.getvalue() if unicodedata.category(char) in UNSEEN}
        assert unseen <= {"\n"}
        assert not any(line.lstrip().startswith("::") for line in shown.getvalue().splitlines())
    assert {path.name for path in folder.iterdir()} <= {"run", "whole"}
