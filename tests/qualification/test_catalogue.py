import gzip
import json

import pytest

from harness.cases import architectures
from harness.qualification import building, catalogue, signatures
from harness.qualification.calls import Level
from harness.qualification.catalogue import Header, ModelCalls
from harness.system import environment
from harness.system.status import UsageProblem

LEVEL = Level(("aten::matmul.default",), dense_results=True)
RELU, ADD = '["aten::relu.default",["%float32[2,3]"],{}]', '["aten::add.Tensor",[1,2],{}]'


def header(**changes) -> Header:
    made = Header.now("float32", 2, LEVEL)
    return Header(**{**vars(made), **changes})


def small() -> catalogue.Catalogue:
    return catalogue.collect(
        header(),
        [
            ModelCalls("b", "f", {RELU: 3}),
            ModelCalls("a", "g", {RELU: 1, ADD: 2}),
            ModelCalls("c", "f", {}, "RuntimeError: looks at numbers"),
        ],
    )


def test_a_catalogue_holds_each_call_once_with_the_models_that_make_it():
    found = small()
    assert sorted(found.signatures.values()) == [ADD, RELU]
    assert found.total == 6
    by_text = {found.signatures[name]: models for name, models in found.models_of.items()}
    assert by_text == {RELU: ("a", "b"), ADD: ("a",)}
    assert found.untraced == {"c": "RuntimeError: looks at numbers"}


def test_a_catalogue_read_back_is_the_same_and_so_are_its_bytes(tmp_path):
    path = tmp_path / "c.gz"
    catalogue.write(small(), path)
    assert catalogue.read(path) == small()
    again = tmp_path / "d.gz"
    catalogue.write(catalogue.read(path), again)
    assert again.read_bytes() == path.read_bytes()


def test_a_part_holds_the_calls_of_its_models_alone():
    part = catalogue.choose(small(), models=["b"])
    assert list(part.models) == ["b"] and list(part.signatures.values()) == [RELU]
    assert list(catalogue.choose(small(), families=["g"]).models) == ["a"]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"families": ["h"]}, "no family 'h'"),
        ({"models": ["d"]}, "no model 'd'"),
        ({"models": ["c"]}, "c could not be traced: RuntimeError: looks at numbers"),
    ],
)
def test_a_choice_of_what_is_not_there_is_bad_input(asked, sentence):
    with pytest.raises(UsageProblem, match=sentence):
        catalogue.choose(small(), **asked)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", gzip.compress(b"{}\n[]\n"), None],
    ids=["empty", "text", "other", "missing"],  # a stream of gzip has the time of day in it
)
def test_what_is_no_catalogue_is_bad_input(tmp_path, content):
    path = tmp_path / "c.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageProblem, match="c.gz"):
        catalogue.read(path)


def test_a_torn_catalogue_is_bad_input(tmp_path):
    path = tmp_path / "c.gz"
    catalogue.write(small(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageProblem, match="torn"):
        catalogue.read(path)


def test_a_catalogue_of_another_timm_or_dtype_is_bad_input(tmp_path):
    path = tmp_path / "c.gz"
    other = {**header().versions, "timm": "0.9.0"}
    catalogue.write(catalogue.collect(header(versions=other), []), path)
    here = environment.version("timm")
    with pytest.raises(UsageProblem, match=f"of timm 0.9.0, and timm {here} is installed"):
        catalogue.for_installed(path, "float32")
    catalogue.write(small(), path)
    with pytest.raises(UsageProblem, match="in float32, not float16"):
        catalogue.for_installed(path, "float16")


def test_building_goes_on_where_it_was_stopped(tmp_path):
    part, said = tmp_path / "c.gz.part", []
    first = building.build(header(), ["test_resnet"], part, said.append)
    with part.open("a") as stream:
        stream.write('{"name": "test_vit", "fam')  # killed in the middle of a line
    both = building.build(header(), ["test_resnet", "test_vit", "nothing"], part, said.append)
    assert said == ["1 of 3 models are in c.gz.part already"]
    assert both.models["test_resnet"] == first.models["test_resnet"]
    assert "Unknown model" in both.untraced["nothing"]
    lines = [json.loads(line) for line in part.read_text().splitlines()[1:]]
    assert [line["name"] for line in lines] == ["test_resnet", "test_vit", "nothing"]


def test_what_another_version_left_is_not_taken_up(tmp_path):
    part, said = tmp_path / "c.gz.part", []
    building.build(header(versions={}), ["test_resnet"], part, said.append)
    building.build(header(), ["test_resnet"], part, said.append)
    assert said == []


def test_the_shipped_catalogue_is_of_the_table_of_architectures_and_can_be_read():
    version, rows = architectures.table()
    path = catalogue.SHIPPED / f"timm-{version}-float32.gz"
    assert path.stat().st_size <= 3_000_000
    found = catalogue.read(path)
    assert found.header.versions["timm"] == version and not found.untraced
    assert set(found.models) == set(rows)
    assert found.families["resnet50"] == "resnet"
    for name, text in list(found.signatures.items())[::200]:
        signature = signatures.parse(text)
        assert signature.text == text and signature.id == name
        assert signature.operator.startswith("aten::") and signature.func is not None
    assert all(found.models_of.values())


def test_a_model_that_casts_nothing_makes_the_same_calls_in_another_format(tmp_path):
    traced = {
        dtype: building.build(header(dtype=dtype), ["test_resnet"], tmp_path / dtype, print)
        for dtype in ("float32", "bfloat16")
    }
    derived = catalogue.in_format(traced["float32"], "bfloat16")
    assert derived.header.derived == "float32" and derived.header.dtype == "bfloat16"
    assert dict(derived.signatures) and derived.models == traced["bfloat16"].models
    path = tmp_path / "derived.gz"
    catalogue.write(derived, path)
    assert catalogue.read(path).header.derived == "float32"


def test_a_format_without_a_shipped_catalogue_gets_the_calls_of_float32():
    found = catalogue.for_installed(None, "float16")
    assert found.header.derived == "float32" and len(found.models) > 1000
    assert not any("%float32" in text for text in found.signatures.values())
    assert all(name == signatures.call_id(text) for name, text in found.signatures.items())
