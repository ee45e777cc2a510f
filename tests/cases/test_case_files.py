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
        (
            '[[case]]\nmodell = "x"\n',
            "case 1, modell: it is no key of a case. Known are allow_keys, ",
        ),
        ("[[case]]\ndtypes = []\n", "dtypes: it is no key of a case: did you mean dtype\\? Known"),
        ('[[case]]\nsample = "x"\ndtype = ["float8"]\n', "case 1, dtype.0: "),
        ('[[case]]\nsample = "x"\nbatch_size = 0\n', "case 1, batch_size: "),
        ('[[case]]\nsample = "x"\narchitecture = "y"\n', "name exactly one of"),
        ("[[case]]\n", "name exactly one of"),
        ("# not yet\n", "cases.toml holds no \\[\\[case\\]\\]: docs/adding-a-model.md shows one"),
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
    a, b, c = "resnet18", "resnet34", "resnet50"
    cases = [case(a, tier="smoke"), case(b, tier="core"), case(c, tier="full")]

    def names(tier):
        return [c.model.name for c in case_files.select(cases, Selection(tier=tier))]

    assert names("smoke") == [a]
    assert names("core") == [a, b]
    assert names("full") == [a, b, c]


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
        ("", "--model is empty"),
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


def test_one_directory_written_in_two_ways_needs_no_other_name(tmp_path):
    one, two = (
        Case(ModelSource("directory", str(tmp_path / path)), InputSource("synthetic"))
        for path in ("m", "x/../m")
    )
    (tmp_path / "x").mkdir()
    with pytest.raises(UsageProblem, match="both are one directory"):
        case_files.select([one, two], Selection())


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (("architecture", "resnet5000"), "timm has no architecture 'resnet5000'. Did you mean "),
        (("architecture", "resnet5000.a1_in1k"), "Did you mean resnet"),
        (("architecture", "timm/resnet50.a1_in1k"), "nothing is downloaded"),
        (("architecture", "../resnet50"), "timm has no architecture"),
        (("directory", "/nowhere/at/all"), "/nowhere/at/all does not exist"),
        (("sample", "efficientnet-lite1"), "the known one is efficientnet-lite0"),
    ],
)
def test_a_case_that_names_no_model_is_bad_input_as_on_the_command_line(source, sentence):
    wrong = Case(ModelSource(*source), InputSource("synthetic"), tier="full")
    with pytest.raises(UsageProblem, match=sentence):
        case_files.select([wrong], Selection(tier="full"))
    # What is not selected keeps nobody from running the rest.
    assert case_files.select([wrong, case()], Selection()) == [case()]


@pytest.mark.parametrize("name", ["resnet50.a1_in1k", "tf_efficientnet_b0_ns"])
def test_tags_and_older_names_of_timm_are_known(name):
    assert case_files.select([case(name)], Selection()) == [case(name)]


def test_images_that_are_not_there_are_bad_input():
    wrong = Case(ModelSource("architecture", "resnet18"), InputSource("images", path="/nowhere"))
    with pytest.raises(UsageProblem, match="Image path /nowhere does not exist"):
        case_files.select([wrong], Selection())


def test_suggestions_are_distinct():
    cases = [case("efficientnet_b0", numerics=n, dtype=d) for n in ("default", "strict")
             for d in ("float32", "float16")]  # fmt: skip
    with pytest.raises(UsageProblem) as caught:
        case_files.select(cases, Selection(models=("eficientnet_b0",)))
    names = str(caught.value).partition("Did you mean ")[2].removesuffix("?").split(" or ")
    assert len(names) == 3 == len(set(names)) and "efficientnet_b0" in names


@pytest.mark.parametrize(
    ("name", "fetch"),
    [
        ("timm/efficientnet_b0.ra_in1k", "hf download timm/efficientnet_b0.ra_in1k --local-dir"),
        ("hf-hub:timm/vit_x.y", "hf download timm/vit_x.y "),
        ("https://huggingface.co/timm/vit_x.y", "hf download timm/vit_x.y "),
        ("https://modelscope.cn/models/timm/vit_x.y", "--model timm/vit_x.y "),
    ],
)
def test_a_name_on_a_hub_says_that_nothing_is_downloaded_and_how_to_get_it(name, fetch):
    with pytest.raises(UsageProblem, match="nothing is downloaded") as caught:
        case_files.select([], Selection(models=(name,)))
    assert fetch in str(caught.value)
