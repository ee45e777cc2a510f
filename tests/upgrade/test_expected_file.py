import pytest

from harness.records.expectation import ExpectedRow
from harness.system.status import Status, UsageProblem
from harness.upgrade import expected_file

PASS = ExpectedRow(status=Status.PASS, budget_ratio=1.0, error_rate_percent=1.23e-9, top1="6/6")


KNOWN = ExpectedRow(status=Status.FAIL_NAN, reason='"quoted" \\ Grund ä', link="https://x/1")


HEAD = 'device = "npu"\nnumerics = "strict"\n[case]\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "npu" / "strict.toml"


def write(path, text: str):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_survive_the_round_trip_one_line_each(path):
    rows = {"b.1-strict": PASS, "a+b-strict": KNOWN}
    expected_file.write(path, "npu", "strict", rows)
    assert expected_file.read(path, "npu", "strict") == rows
    lines = path.read_text().splitlines()
    assert [line.split(" = ")[0] for line in lines[-2:]] == ['"a+b-strict"', '"b.1-strict"']
    assert "EMULATED" not in path.read_text()


def test_an_emulated_file_says_so(tmp_path):
    path = tmp_path / "e.toml"
    expected_file.write(path, "npu-emulated", "strict", {"a": PASS})
    assert "# EMULATED" in path.read_text()
    expected_file.read(path, "npu-emulated", "strict")


def test_writing_keeps_comments_and_the_other_rows_byte_for_byte(path):
    b = '"b" = {status="pass",  budget_ratio = 0.98}  # mine'
    write(path, f'# first\n{HEAD}# about a\n"a" = {{ status = "pass" }}\n{b}\n# end\n')
    expected_file.write(path, "npu", "strict", {"a": PASS, "aa": PASS})
    lines = path.read_text().splitlines()
    assert lines[0] == "# first" and lines[4] == "# about a" and lines[-2:] == [b, "# end"]
    assert list(expected_file.read(path, "npu", "strict")) == ["a", "aa", "b"]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (HEAD + '"a" = { status = "pass"\n', "line 4, column 24", "not valid TOML"),
        (HEAD + '"a" = { status = pass }\n', "line 4, column 18", "not valid TOML"),
        (HEAD + '"a" = { status = "pass', "line 4, column 1", "not valid TOML"),
        (HEAD + '"a" = { status = "pas" }\n', "line 4, column 9", "status"),
        (
            HEAD + '"a" = { status = "pass", budget_rato = 1.0 }\n',
            "line 4, column 26",
            "did you mean 'budget_ratio'?",
        ),
        (HEAD + '"a" = { status = "pass", top1 = "all" }\n', "line 4, column 26", "top1"),
        (HEAD + '"a" = { status = "pass", budget_ratio = "1" }\n', "line 4, column 26", "number"),
        (HEAD + '"a" = { budget_ratio = 1.0 }\n', "line 4, column 1", "'status' is missing"),
        (HEAD + '"a" = { status = "fail_nan" }\n', "line 4, column 1", "a reason and a link"),
        (HEAD + '"a" = { status = "pass", tolerance = 3.0 }\n', "line 4, column 1", "a reason"),
        (HEAD + '"a" = { status = "skip" }\n', "line 4, column 9", "must be one of"),
        (HEAD + '[case."a"]\nstatus = "pass"\n', "line 4, column 8", "must be one line"),
        (HEAD + '"bb" = { status = "pass" }\n', "line 4, column 1", "no case of the case files"),
        (HEAD.replace("device", "devise"), "line 1, column 1", "device must be"),
        (HEAD.replace("npu", "npu-emulated"), "line 1, column 1", 'device must be "npu"'),
        (HEAD.replace('"strict"', '"default"'), "line 2, column 1", 'numerics must be "strict"'),
        (HEAD.replace("[case]", "[cases]"), "line 3, column 2", "unknown key 'cases'"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence_with_line_and_column(path, text, where, what):
    write(path, text)
    with pytest.raises(UsageProblem) as problem:
        expected_file.read(path, "npu", "strict", known_ids={"a"})
    sentence = str(problem.value)
    assert f"{path}, {where}: " in sentence
    assert what in sentence
    assert "\n" not in sentence


def test_text_that_is_not_utf8(path):
    write(path, "")
    path.write_bytes(HEAD.encode() + b'"a\xff" = 1\n')
    with pytest.raises(UsageProblem, match="line 4, column 3: not UTF-8"):
        expected_file.read(path, "npu", "strict")
