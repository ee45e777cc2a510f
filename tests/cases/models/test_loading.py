import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cases.case import ModelSource
from harness.cases.models import loading
from harness.cases.models.model_files import ModelFiles
from harness.system import files
from harness.system.status import CaseProblem, Stage, Status
from harness.system.torchvision_shim import import_timm

timm = import_timm()


ARCHITECTURE = "test_resnet"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in timm.create_model(ARCHITECTURE).state_dict().items()}


@pytest.fixture
def directory(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    """A good model directory in timm's hub format; tests damage it."""
    path = tmp_path / "model"
    path.mkdir()
    save_file(state, path / "model.safetensors")
    write(path, architecture=ARCHITECTURE, num_classes=1000)
    return path


def write(path: Path, **config):
    (path / "config.json").write_text(json.dumps(config))


def change(path: Path, **tensors):
    """Replace tensors of the stored weights (dots as double underscores); None removes one."""
    stored = load_file(path / "model.safetensors")
    for key, value in tensors.items():
        name = key.replace("__", ".")
        if value is None:
            del stored[name]
        else:
            stored[name] = value
    save_file(stored, path / "model.safetensors")


def refused(path: Path, *words: str, **options) -> str:
    """Loading fails with fail_load at stage load and one sentence that has all the words."""
    with pytest.raises(CaseProblem) as caught:
        loading.load_model(path, **options)
    problem = caught.value
    assert (problem.status, problem.stage) == (Status.FAIL_LOAD, Stage.LOAD)
    for word in words:
        assert word in problem.reason, problem.reason
    assert "\n" not in problem.reason and problem.reason[-1] in ".?"
    return problem.reason


def test_good_directory(directory, state):
    loaded = loading.load_model(directory)
    assert loaded.weights.problems == () and loaded.weights.loaded == len(state)
    assert not loaded.model.training and loaded.num_classes == 1000
    assert all(torch.equal(v, state[k]) for k, v in loaded.model.state_dict().items())
    assert loaded.weights_sha256 == files.sha256_tensors(state)
    assert loaded.weights_description == "file model.safetensors"
    assert loaded.data_config["input_size"] == (3, 160, 160)


def test_hash_follows_any_bit(directory, state):
    before = loading.load_model(directory).weights_sha256
    assert loading.load_model(directory).weights_sha256 == before
    changed = state["fc.bias"].clone()
    changed[3] = torch.nextafter(changed[3], torch.tensor(9.0))
    change(directory, fc__bias=changed)
    assert loading.load_model(directory).weights_sha256 != before


def test_flat_keys_and_nested_keys_reach_the_preprocessing(directory):
    flat = {"mean": [0.1, 0.2, 0.3], "interpolation": "bilinear", "crop_pct": 0.5}
    write(directory, architecture=ARCHITECTURE, input_size=[3, 96, 96], **flat)
    config = loading.load_model(directory).data_config
    assert config["mean"] == (0.1, 0.2, 0.3) and config["input_size"] == (3, 96, 96)
    assert config["interpolation"] == "bilinear" and config["crop_pct"] == 0.5
    write(directory, architecture=ARCHITECTURE, **flat, pretrained_cfg={"crop_pct": 0.7, "odd": 1})
    loaded = loading.load_model(directory)
    assert loaded.data_config["crop_pct"] == 0.7 and loaded.data_config["mean"] == (0.1, 0.2, 0.3)
    assert "odd" in loaded.weights.summary()


def test_buffers_that_are_infinite_by_design_are_no_broken_file():
    model = torch.nn.BatchNorm2d(2)
    model.register_buffer("low", torch.tensor([-torch.inf, 0.0]))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert loading._load_state(model, state, (), Path("w")).nonfinite == ()
    state["low"][1], state["weight"][0] = torch.inf, torch.nan
    assert loading._load_state(model, state, (), Path("w")).nonfinite == (("weight", 1), ("low", 1))


def test_the_size_that_a_model_is_built_for_is_that_of_its_images(tmp_path):
    model = timm.create_model("test_vit", num_classes=7, img_size=96)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True, model_args={"img_size": 96})
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("pretrained_cfg")
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = loading.load_model(tmp_path)
    assert loaded.data_config["input_size"] == (3, 96, 96)
    assert loaded.model(torch.zeros(1, 3, 96, 96)).shape == (1, 7)


def test_what_timm_saves_for_the_hub_loads(tmp_path):
    model = timm.create_model(ARCHITECTURE, num_classes=7, act_layer="gelu")
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = loading.load_model(tmp_path)
    assert loaded.num_classes == 7 and loaded.weights.problems == ()
    image = torch.rand(1, 3, 160, 160)
    with torch.no_grad():  # model_args counted: gelu, not relu
        torch.testing.assert_close(loaded.model(image), model.eval()(image))


def test_half_precision_file_is_cast_and_noted(directory, state):
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file(half, directory / "model.safetensors")
    loaded = loading.load_model(directory)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert "cast from float16" in loaded.weights.summary()


def test_older_files_go_through_timms_own_filter(tmp_path):
    # Older swin files hold buffers that are not saved any more; timm's filter drops them.
    options = {"img_size": 64, "embed_dim": 24, "depths": [1, 1], "num_heads": [1, 2]}
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, **options)
    old = {k: v.clone() for k, v in model.state_dict().items()}
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, dtype=torch.int64)
    save_file(old, tmp_path / "model.safetensors")
    write(tmp_path, architecture="swin_tiny_patch4_window7_224", num_classes=5, model_args=options)
    loaded = loading.load_model(tmp_path)
    assert loaded.weights.problems == () and "checkpoint_filter_fn" in loaded.weights.summary()
    assert torch.equal(loaded.model.state_dict()["head.fc.weight"], old["head.fc.weight"])
    old["nonsense"] = torch.zeros(1)
    save_file(old, tmp_path / "model.safetensors")
    refused(tmp_path, "1 unknown to the model (nonsense)")


def test_missing_unexpected_and_mismatched_keys(directory, state):
    change(directory, conv1__0__weight=None, extra=torch.zeros(1), fc__bias=torch.zeros(7))
    refused(
        directory,
        "1 missing in the file (conv1.0.weight)",
        "unknown to the model (extra)",
        "fc.bias 7 in the file, 1000 in the model",
        f"of {len(state)} tensors",
    )
    refused(directory, "unknown to the model", allow_keys=("conv1.*", "fc.bias"))
    loaded = loading.load_model(directory, allow_keys=("conv1.0.weight", "ext*", "fc.bias"))
    account = loaded.weights
    assert set(account.allowed) == {"conv1.0.weight", "extra", "fc.bias"}
    assert account.loaded == len(state) - 2 and "3 allowed" in account.summary()
    # What is allowed keeps the model's own initial value, the same in every process.
    again = loading.load_model(directory, allow_keys=("*",))
    assert again.weights_sha256 == loaded.weights_sha256


def test_a_pattern_that_is_the_name_of_no_weight_is_said(directory):
    account = loading.load_model(directory, allow_keys=("fc.*", "fc.wieght", "head.*")).weights
    assert account.idle == ("fc.wieght", "head.*") and not account.allowed
    assert "the name of no weight: fc.wieght, head.*" in account.summary()
    change(directory, fc__weight=None)
    refused(directory, "missing in the file (fc.weight)", "the name of no weight: fc.wieght",
            allow_keys=("fc.wieght",))  # fmt: skip


def test_all_keys_wrong_is_not_a_random_model(directory, state):
    save_file({f"net.{k}": v for k, v in state.items()}, directory / "model.safetensors")
    said = refused(directory, "0 loaded", "prefix 'net.'", "state_dict() of the timm model itself")
    assert "allow" not in said
    save_file({f"{k}x": v for k, v in state.items()}, directory / "model.safetensors")
    assert "allow" not in refused(directory, "0 loaded", f"{len(state)} unknown")


def test_wrong_num_classes_names_both_numbers(directory):
    refused(directory, "1000 classes", "the option says 10", num_classes=10)
    write(directory, architecture=ARCHITECTURE, num_classes=12)
    refused(directory, "1000 classes", "config.json says 12")
    loaded = loading.load_model(directory, allow_keys=("fc.*",))
    assert loaded.num_classes == 12


@pytest.mark.parametrize("value", ["ten", -1, 2.5])
def test_num_classes_of_another_type(directory, value):
    write(directory, architecture=ARCHITECTURE, num_classes=value)
    refused(directory, "`num_classes`", "config.json")


def test_non_finite_weights(directory, state):
    weight = state["fc.weight"].clone()
    weight[0, :5] = float("nan")
    weight[1, 0] = float("inf")
    change(directory, fc__weight=weight)
    refused(directory, "NaN or infinite", "fc.weight with 6")


def test_bad_directories(tmp_path, directory):
    refused(tmp_path / "nowhere", "does not exist")
    refused(directory / "config.json", "is a file")
    (directory / "config.json").unlink()
    refused(directory, "no config.json")


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", ["is not JSON"]),
        ("", ["is not JSON"]),
        ("[1]", ["JSON list"]),
        ("{}", ["no key `architecture`"]),
        ('{"architecture": 5}', ["is 5, not a name"]),
        ('{"model_type": "vit", "architectures": ["ViTModel"]}', ["transformers", "vit"]),
        ('{"_class_name": "UNet2DModel"}', ["diffusers", "UNet2DModel"]),
        ('{"architecture": "efficentnet_b0"}', ["no architecture", "efficientnet_b0"]),
        ('{"architecture": "hf-hub:timm/resnet18"}', ["no architecture"]),
        ('{"architecture": "test_resnet", "model_args": {"nonsense": 1}}', ["model_args"]),
        ('{"architecture": "test_resnet", "model_args": []}', ["JSON objects"]),
        ('{"architecture": "test_resnet", "mean": 0.5}', ["`mean`", "is 0.5", "valid list"]),
        ('{"architecture": "test_resnet", "input_size": ["a", 1, 2]}', ["`input_size`"]),
    ],
)
def test_bad_configs(directory, text, words):
    (directory / "config.json").write_text(text)
    refused(directory, *words)


@pytest.mark.parametrize(
    "name, owner",
    [("saved_model.pb", "TensorFlow"), ("net.onnx", "ONNX"), ("net.om", "Ascend offline")],
)
def test_directory_of_another_framework(directory, name, owner):
    (directory / name).write_bytes(b"x")
    (directory / "config.json").unlink()
    refused(directory, owner, name)


def test_no_weights(directory):
    (directory / "model.safetensors").unlink()
    refused(directory, "no weights file", "model.safetensors")
    (directory / "net.onnx").write_bytes(b"x")
    refused(directory, "no weights file", "ONNX")


def test_damaged_weights(directory):
    path = directory / "model.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    refused(directory, "is truncated")
    path.write_bytes(b"")
    refused(directory, "is empty (0 bytes)")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 21355344\n")
    refused(directory, "Git-LFS pointer", "git lfs pull")
    path.write_bytes(b"something else, long enough to have a header")
    refused(directory, "not a readable safetensors file")


def test_pickles_only_when_allowed(directory, state):
    (directory / "model.safetensors").unlink()
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        directory / "pytorch_model.bin",
    )
    refused(directory, "only as pickle", "pytorch_model.bin")
    loaded = loading.load_model(directory, allow_pickle=True)
    assert loaded.weights.problems == ()
    assert loaded.weights_description == "file pytorch_model.bin"


def test_pickle_with_code_is_refused(directory, tmp_path):
    (directory / "model.safetensors").unlink()
    torch.save({"x": Path("y")}, directory / "model.bin")
    refused(directory, "weights_only=True", allow_pickle=True)
    (directory / "model.bin").write_text("hello")
    refused(directory, "weights_only=True", allow_pickle=True)
    torch.save([1, 2], directory / "model.bin")
    refused(directory, "holds no state dict", allow_pickle=True)


def test_several_weights_files(directory):
    (directory / "model.safetensors").rename(directory / "a.safetensors")
    assert loading.load_model(directory).weights.problems == ()
    (directory / "b.safetensors").write_bytes((directory / "a.safetensors").read_bytes())
    refused(directory, "2 safetensors files (a.safetensors, b.safetensors)")


def test_architecture_is_made_once_and_says_what_it_is(tmp_path):
    source = ModelSource("architecture", ARCHITECTURE, num_classes=10)
    first = loading.materialise(source, tmp_path)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert loading.materialise(source, tmp_path) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    assert sorted(p.name for p in first.iterdir()) == ["config.json", "model.safetensors"]
    assert [p.name for p in first.parent.iterdir()] == [first.name]  # nothing left behind
    loaded = ModelFiles.of(source, tmp_path).load()
    assert loaded.num_classes == 10 and loaded.weights.problems == ()
    assert loaded.weights_description == "discriminating random (recipe 2, seed 0)"
    assert loaded.config["harness_weights"]["measured"]["max_softmax_cosine"] < 0.9999
    other = ModelFiles.of(dataclasses.replace(source, seed=1), tmp_path).load()
    assert other.weights_description == "discriminating random (recipe 2, seed 1)"
    assert other.weights_sha256 != loaded.weights_sha256
    # A damaged cache entry is made again, with the same bits.
    (first / "model.safetensors").write_bytes(b"x" * 100)
    assert ModelFiles.of(source, tmp_path).load().weights_sha256 == loaded.weights_sha256


def test_changed_weights_lose_their_description(tmp_path, state):
    source = ModelSource("architecture", ARCHITECTURE)
    made = loading.materialise(source, tmp_path)
    change(made, fc__bias=state["fc.bias"] + 1)
    described = loading.load_model(made).weights_description
    assert described.startswith("file model.safetensors (changed")


def test_unknown_sources(tmp_path):
    for source, word in (
        (ModelSource("architecture", "resnet1888"), "no architecture"),
        (ModelSource("sample", "other"), "efficientnet-lite0"),
    ):
        with pytest.raises(CaseProblem, match=word):
            loading.materialise(source, tmp_path)
    assert loading.materialise(ModelSource("directory", "some/where"), tmp_path) == Path(
        "some/where"
    )


def test_what_weights_were_made_in_is_given_back_before_they_are_loaded(tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr(loading.process, "release", lambda: released.append(1))
    source = ModelSource("architecture", "test_vit", num_classes=10)
    for _ in range(2):
        loading.materialise(source, tmp_path)
    assert len(released) == 1
