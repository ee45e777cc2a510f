import pytest

from harness.cases import case_files
from harness.cases.case import Case, InputSource, ModelSource
from harness.cases.case_files import Selection
from harness.system.status import UsageProblem


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "cases.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_an_entry_stands_for_every_combination(write):
    cases = case_files.read(
        write('[[case]]\narchitecture = "resnet18"\ninputs = ["photos", "synthetic"]\n')
    )
    assert [case.id for case in cases] == [
        "resnet18-photos-float32-b8-default",
        "resnet18-photos-float32-b8-strict",
        "resnet18-synthetic-float32-b8-default",
        "resnet18-synthetic-float32-b8-strict",
    ]


def test_directories_are_relative_to_the_file(write, tmp_path):
    (case, _) = case_files.read(write('[[case]]\ndirectory = "my model"\n'))
    assert case.model.ref == str(tmp_path / "my model")
    assert case.id.startswith("my_model-")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[case]]\nsample = x\n", "not valid TOML: .*line 2, column"),
        ('[[case]]\nmodell = "x"\n', "case 1, modell: Extra inputs are not permitted"),
        ('[[case]]\nsample = "x"\ndtype = ["float8"]\n', "case 1, dtype.0: "),
        ('[[case]]\nsample = "x"\nbatch_size = 0\n', "case 1, batch_size: "),
        ('[[case]]\nsample = "x"\narchitecture = "y"\n', "name exactly one of"),
        ("[[case]]\n", "name exactly one of"),
        ('[cases]\nsample = "x"\n', "only \\[\\[case\\]\\] entries are known, not cases"),
    ],
)
def test_bad_files_say_what_and_where(write, text, sentence):
    with pytest.raises(UsageProblem, match=sentence):
        case_files.read(write(text))


def test_batch_sizes_to_time_a_case_at_are_no_part_of_its_identity(write):
    text = '[[case]]\narchitecture = "resnet18"\nnumerics = ["strict"]\n'
    (plain,) = case_files.read(write(text))
    (timed,) = case_files.read(write(f"{text}throughput = [1, 64]\n"))
    (left_out,) = case_files.read(write(f"{text}throughput = []\n"))
    assert [one.throughput for one in (plain, timed, left_out)] == [None, (1, 64), ()]
    assert plain == timed == left_out and plain.fingerprint == timed.fingerprint
    asked = [case_files.select([one], Selection(throughput=(8,)))[0] for one in (plain, timed)]
    assert [one.throughput for one in asked] == [(8,), (8,)]
    assert case_files.select([timed], Selection())[0].throughput == (1, 64)
    with pytest.raises(UsageProblem, match="case 1, throughput.0: .*greater than or equal to 1"):
        case_files.read(write(f"{text}throughput = [0]\n"))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UsageProblem, match="cannot be read: No such file"):
        case_files.read(tmp_path / "nope.toml")


def case(name: str = "resnet18", **changes) -> Case:
    return Case(ModelSource("architecture", name), InputSource("synthetic"), **changes)


def test_tiers_contain_the_smaller_ones():
    cases = [case("a", tier="smoke"), case("b", tier="core"), case("c", tier="full")]

    def names(tier):
        return [c.model.name for c in case_files.select(cases, Selection(tier=tier))]

    assert names("smoke") == ["a"]
    assert names("core") == ["a", "b"]
    assert names("full") == ["a", "b", "c"]


def test_a_model_glob_picks_cases():
    cases = [case("resnet18"), case("resnet34"), case("vit_tiny_patch16_224")]
    chosen = case_files.select(cases, Selection(models=("resnet*",)))
    assert [c.model.name for c in chosen] == ["resnet18", "resnet34"]


def test_overrides_merge_cases_that_become_equal():
    cases = [case(numerics="default"), case(numerics="strict")]
    chosen = case_files.select(cases, Selection(numerics="strict", batch_size=2, seed=3))
    assert [c.id for c in chosen] == ["resnet18-w3-synthetic-s3-float32-b2-strict"]


def test_a_directory_becomes_cases(tmp_path):
    chosen = case_files.select([], Selection(models=(str(tmp_path),)))
    assert {c.inputs.kind for c in chosen} == {"photos", "synthetic"}
    assert {c.numerics for c in chosen} == {"default", "strict"}


def test_an_architecture_outside_the_case_files_is_made(tmp_path):
    chosen = case_files.select([], Selection(models=("resnet18",)))
    assert [c.model for c in chosen] == [ModelSource("architecture", "resnet18")] * 2


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("resnet5000", "matches no case.*Did you mean"),
        ("./nope", "does not exist"),
    ],
)
def test_a_model_that_names_nothing(pattern, sentence):
    with pytest.raises(UsageProblem, match=sentence):
        case_files.select([], Selection(models=(pattern,)))


def test_two_cases_must_not_share_an_id(tmp_path):
    one = Case(ModelSource("directory", str(tmp_path / "a" / "m")), InputSource("synthetic"))
    two = Case(ModelSource("directory", str(tmp_path / "b" / "m")), InputSource("synthetic"))
    with pytest.raises(UsageProblem, match="share the id"):
        case_files.select([one, two], Selection())
