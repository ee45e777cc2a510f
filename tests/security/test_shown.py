"""What is shown: no credential, no home, no control character, no command to a CI system."""

import json

from harness.entry import inference
from harness.entry.commands.main import main
from harness.records import results_file
from harness.records.lines import EndRecord
from harness.report import junit, markdown, spreadsheet, text
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


def test_a_missing_case_is_no_markup():
    found = markdown.render_run([], ["x`![i](http://evil)`\n# heading"])
    (line,) = [line for line in found.splitlines() if line.startswith("Cases without")]
    assert line.endswith("`x'![i](http://evil)' # heading`") and line.count("`") == 2


def test_problems_are_plain():
    assert is_plain(str(UsageProblem(HOSTILE)))
    assert is_plain(CaseProblem(Status.FAIL_LOAD, Stage.LOAD, HOSTILE).reason, lines=False)


def test_inference_prints_no_command(monkeypatch, capsys, tmp_path, tiny_model):
    monkeypatch.setattr(
        "harness.cases.models.class_names.class_name", lambda *given: "cat\n::error::owned\x1b[0m"
    )
    image = tmp_path / "::error::x\x1b.png"
    from PIL import Image

    Image.new("RGB", (40, 40)).save(image)
    monkeypatch.chdir(tmp_path)
    arguments = ["--model_path", str(tiny_model), "--image", image.name, "--device", "cpu"]
    assert inference.main(arguments) == 0
    assert is_plain(capsys.readouterr().out)


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
    document.write(found, "en", tmp_path / "port")
    written = [path for path in (tmp_path / "port").rglob("*") if path.is_file()]
    assert len(written) == 5
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
