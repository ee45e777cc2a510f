"""What is shown: no credential, no home, no control character, no command to a CI system."""

import json
import time

import pytest

from harness.entry import inference
from harness.entry.commands.main import main
from harness.records import results_file
from harness.records.lines import CaseRecord, EndRecord
from harness.report import junit, markdown, spreadsheet, text
from harness.report.html import fragments, page
from harness.report.port import content, document
from harness.system import environment, shown
from harness.system.status import CaseProblem, Finding, Stage, Status, UsageProblem
from tests.makers.records import case_record, run_record

HOSTILE = "a\x1b[31mred\x1b]0;title\x07\u202egpj.exe\n::error::owned\r\n##[error]x\u2028\u200f"
SECRETS = {
    "ASCEND_PROXY_URL": "http://bob:hunter2@proxy:8080",
    "HCCL_AUTH_HEADER": "Bearer abc.def.ghi",
    "ACL_PASSWD": "hunter2",
    "ASCEND_CERT": "-----BEGIN PRIVATE KEY-----\nMIIhunter2",
    "ASCEND_HOME_PATH": "AKIAIOSFODNN7EXAMPLE",
    "OMP_PLACES": "ghp_0123456789abcdef0123456789abcdef0123",
    "MKL_CBWR": "hf_0123456789abcdef0123456789",
    "OMP_API_TOKEN": "plain",
    "TORCH_NPU_UNKNOWN": "who knows",
}


def is_plain(found: str, *, lines: bool = True) -> bool:
    commands = [line for line in found.split("\n") if line.lstrip().startswith("::")]
    allowed = "\n" if lines else ""
    return not commands and all(char.isprintable() or char in allowed for char in found)


def test_credentials_are_not_captured():
    found = environment.capture(SECRETS)
    assert {name: found[name] for name in SECRETS} == dict.fromkeys(SECRETS, environment.HIDDEN)


def test_known_settings_are_shown():
    known = {"OMP_NUM_THREADS": "4", "ASCEND_RT_VISIBLE_DEVICES": "0,1", "HCCL_ALGO": "ring"}
    assert known.items() <= environment.capture(known).items()


def test_homes_are_no_names_of_people():
    found = environment.capture({"ASCEND_HOME_PATH": "/home/bob/Ascend/latest"})
    assert found["ASCEND_HOME_PATH"] == "~/Ascend/latest"
    text_with = "weights in /home/bob/m, /Users/eve/m: and '/root/x'; /data/home/kept /rooted"
    assert environment.without_homes(text_with) == (
        "weights in ~/m, ~/m: and '~/x'; /data/home/kept /rooted"
    )


def test_credentials_in_records_of_others_are_not_carried_on(tmp_path):
    found = {"ASCEND_PROXY_URL": SECRETS["ASCEND_PROXY_URL"], "torch": "2.8"}
    raw = json.loads(run_record("a").model_dump_json()) | {"environment": found}
    (tmp_path / "results.jsonl").write_text(json.dumps(raw) + "\n")
    run = results_file.read_run(tmp_path).run
    assert run.environment == {"ASCEND_PROXY_URL": environment.HIDDEN, "torch": "2.8"}


def test_one_filter_makes_foreign_text_plain():
    assert is_plain(shown.line(HOSTILE), lines=False)
    assert is_plain(shown.lines(HOSTILE))
    assert shown.line("::error::x") == "\N{REPLACEMENT CHARACTER}:error::x"
    assert shown.line("  ::error::x").lstrip()[0] != ":"
    assert "##[" not in shown.line("text ##[error]x") and "##vso[" not in shown.line("##vso[a]")
    kept = "aten::conv 模型 ä 1.5 × 2 ## heading"
    assert shown.line(kept) == kept
    assert shown.lines("  a\n\n    b") == "  a\n\n    b"


PROSE = {
    "no proxy http://bob:hunter2@proxy:8080/x today": "no proxy http://(hidden)@proxy:8080/x today",
    "ACL_PASSWD=hunter2 and HF_TOKEN = 'hunter2'": "ACL_PASSWD=(hidden) and HF_TOKEN =(hidden)",
    "Authorization: Bearer hunter2\nnext": "Authorization: (hidden)\nnext",
    "sent bearer hunter2.abc.def to x": "sent bearer (hidden) to x",
    "a\n-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\nb": "a\n(hidden)\nb",
    "-----BEGIN PRIVATE KEY-----\nhunter2\nMII": "(hidden)",
    "key AKIAIOSFODNN7EXAMPLE.": "key (hidden).",
    "ghp_0123456789abcdef0123456789abcdef0123": "(hidden)",
}  # fmt: skip
PLAIN = """KeyError: 'head.bias'
missing key=head.bias, tokens = 3, the basic idea of a bearer bond, digest mismatch
see https://example.org/a@b and file:///home, user@host:/x"""


@pytest.mark.parametrize("given", PROSE)
def test_credentials_in_prose_are_masked_and_the_rest_is_kept(given):
    assert shown.without_credentials(given) == PROSE[given]


def test_prose_without_credentials_is_kept():
    assert shown.without_credentials(PLAIN) == PLAIN


@pytest.mark.parametrize(
    "piece",
    ["KEY", "-eyJ", "eyJ", "A", "bearer ", "://", "-----BEGIN A", "authorization ", "TOKEN =",
     "sk-", " ", "eyJaaaaaaaa."],
)  # fmt: skip
def test_masking_takes_no_more_than_the_length_of_what_it_reads(piece):
    began = time.perf_counter()
    shown.without_credentials(piece * (200_000 // len(piece)))
    assert time.perf_counter() - began < 5


def test_the_last_lines_of_a_process_are_plain_in_the_record():
    tail = f"{HOSTILE}\nACL_PASSWD=hunter2\nat /home/bob/x.py\n" + "\n".join(PROSE)
    case = case_record("m", Status.ERROR_CRASH, log_tail=tail)
    assert is_plain(case.log_tail) and "hunter2" not in case.model_dump_json()
    assert "bob" not in case.log_tail and "~/x.py" in case.log_tail
    assert CaseRecord.model_validate_json(case.model_dump_json()) == case


def test_a_problem_s_reason_holds_no_credential():
    problem = CaseProblem(Status.ERROR_DEVICE, Stage.FORWARD, "at http://bob:hunter2@proxy")
    assert problem.reason == "at http://(hidden)@proxy"


def test_json_on_a_terminal_is_plain_and_loses_nothing():
    given = {"name": HOSTILE + "\udc80\U000e0041 \x7f\x9b 模型 ä", "n": [1.5, None, True]}
    text = shown.document(given)
    assert is_plain(text) and "##[" not in text and "模型 ä" in text
    assert json.loads(text) == given
    assert "hunter2" not in shown.document({"a": ["http://bob:hunter2@proxy"]})


def hostile_case():
    return case_record(
        status=Status.FAIL_LOAD,
        reason=HOSTILE,
        findings=[Finding(Status.FAIL_LOAD, Stage.LOAD, HOSTILE)] * 2,
        notes=[HOSTILE],
        weights=HOSTILE,
        inputs=HOSTILE,
        labels=[HOSTILE],
        log_tail=HOSTILE,
    ).model_copy(update={"case_id": HOSTILE})


def test_every_report_is_plain(tmp_path):
    case = hostile_case()
    missing = [HOSTILE, "x`![i](http://evil)`\n# heading"]
    assert is_plain(text.render_run([case], missing))
    shown_markdown = markdown.render_run([case], missing)
    assert is_plain(shown_markdown)
    run = results_file.Run(run=run_record(case.case_id), cases=[case], end=None)
    assert is_plain(spreadsheet.render(run))
    assert all(is_plain(str(value), lines=False) for _, value in junit.properties(case))
    parts = [fragments.render_case(case), page.render_summary(run.run, [case], missing)]
    assert is_plain("".join(parts)) and all("gpj.exe" in part for part in parts)


def test_a_missing_case_is_no_markup():
    found = markdown.render_run([], ["x`![i](http://evil)`\n# heading"])
    (line,) = [line for line in found.splitlines() if line.startswith("Cases without")]
    assert line.endswith("`x'![i](http://evil)' # heading`") and line.count("`") == 2


def test_problems_are_plain():
    assert is_plain(str(UsageProblem(HOSTILE)))
    assert is_plain(CaseProblem(Status.FAIL_LOAD, Stage.LOAD, HOSTILE).reason, lines=False)


def test_inference_prints_no_command(monkeypatch, capsys, tmp_path, tiny_model):
    monkeypatch.setattr(
        "harness.cases.models.class_names.class_name",
        lambda *given: "cat\n::error::owned\x1b[0m\u202e",
    )
    image = tmp_path / "::error::x\x1b.png"
    from PIL import Image

    Image.new("RGB", (40, 40)).save(image)
    monkeypatch.chdir(tmp_path)
    arguments = ["--model_path", str(tiny_model), "--image", image.name, "--device", "cpu"]
    assert inference.main(arguments) == 0
    assert is_plain(capsys.readouterr().out)
    assert inference.main([*arguments, "--json"]) == 0
    text = capsys.readouterr().out
    assert is_plain(text)
    (result,) = json.loads(text)["results"]
    assert result["image"] == image.name and result["top"][0]["name"].endswith("\x1b[0m\u202e")


def test_a_port_names_no_home(tmp_path):
    case = case_record("m", Status.PASS, log_tail="in /home/bob/x")
    model = {"kind": "directory", "ref": "/home/bob/models/m"}
    raw = json.loads(case.model_dump_json())
    raw["case"]["model"] |= model
    raw["reason"] = "/home/bob/models/m/config.json"
    own = json.loads(run_record(case.case_id).model_dump_json())
    own["environment"] = {"ASCEND_HOME_PATH": "/home/bob/Ascend"}
    end = json.loads(EndRecord(exit_code=0, finished="2026-01-01T00:00:00Z").model_dump_json())
    lines = "".join(json.dumps(line) + "\n" for line in (own, raw, end))
    (tmp_path / "results.jsonl").write_text(lines)
    found = content.choose(results_file.read_run(tmp_path), None)
    document.write(found, "en", tmp_path / "port", tmp_path)
    written = [path for path in (tmp_path / "port").rglob("*") if path.is_file()]
    assert len(written) == 7
    assert [path.name for path in written if "bob" in path.read_text()] == []
    again = results_file.read(tmp_path / "port" / "results" / "records.jsonl")
    assert again.cases[0].case.model.ref == "m"


def test_the_command_s_output_is_plain(tmp_path, capsys):
    case = hostile_case()
    lines = [run_record(case.case_id, HOSTILE + "2"), case]
    (tmp_path / "results.jsonl").write_text("".join(r.model_dump_json() + "\n" for r in lines))
    for form in ("text", "markdown", "csv"):
        main(["report", str(tmp_path), "--format", form])
        assert is_plain(capsys.readouterr().out)
    main(["merge", str(tmp_path), "--output", str(tmp_path / "whole")])
    assert is_plain(capsys.readouterr().out)
