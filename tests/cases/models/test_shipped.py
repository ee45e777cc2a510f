"""Directories as hubs ship them load; what is odd about them is a sentence that says what to do."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from harness.cases import inputs
from harness.cases.case import InputSource, ModelSource
from harness.cases.models import config_values, loading
from harness.cases.models.model_files import ModelFiles
from harness.system.status import CaseProblem, Status
from harness.system.torchvision_shim import import_timm

timm = import_timm()
NAME = "test_resnet"


@pytest.fixture(scope="module")
def state():
    return {k: v.clone() for k, v in timm.create_model(NAME).state_dict().items()}


@pytest.fixture
def folder(tmp_path, state):
    path = tmp_path / "model"
    path.mkdir()
    save_file(state, path / "model.safetensors")
    write(path)
    return path


def write(path, **config):
    config = {"architecture": NAME, "num_classes": 1000, **config}
    (path / "config.json").write_text(json.dumps(config))


def same(loaded, state):
    own = loaded.model.state_dict()
    assert loaded.weights.problems == ()
    assert all(torch.equal(own[name], value.float().to(own[name].dtype))
               for name, value in state.items())  # fmt: skip


def refused(path, *words, **options):
    with pytest.raises(CaseProblem) as caught:
        loading.load_model(path, **options)
    assert caught.value.status is Status.FAIL_LOAD
    for word in words:
        assert word in caught.value.reason, caught.value.reason
    return caught.value.reason


def test_shards_are_joined_and_all_of_them_are_in_the_key(folder, state):
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    shards = {"model-1-of-2.safetensors": names[:40], "model-2-of-2.safetensors": names[40:]}
    for file, part in shards.items():
        save_file({name: state[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    loaded = loading.load_model(folder)
    same(loaded, state)
    assert "2 shards of model.safetensors.index.json" in loaded.weights.summary()
    files = ModelFiles(folder, None, (), False)
    before = files.key()
    save_file({names[0]: state[names[0]]}, folder / "model-1-of-2.safetensors")
    assert files.key() != before
    (folder / "model-2-of-2.safetensors").unlink()
    refused(folder, "names model-2-of-2.safetensors, which is not there")
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    refused(folder, "which is no file beside it")
    index.write_text("[]")
    refused(folder, "is no index of safetensors files")


@pytest.mark.parametrize("safe", ["both", True, False])
def test_what_timm_saves_for_a_hub_loads(tmp_path, state, safe):
    model = timm.create_model(NAME)
    model.load_state_dict(state)
    timm.models.save_for_hf(model, str(tmp_path / "m"), safe_serialization=safe)
    if safe is False:
        refused(tmp_path / "m", "only as pickle (pytorch_model.bin)", "--allow-pickle")
    same(loading.load_model(tmp_path / "m", allow_pickle=safe is False), state)


def test_what_transformers_timm_wrapper_saves_loads(folder, state):
    save_file({f"timm_model.{k}": v for k, v in state.items()}, folder / "model.safetensors")
    write(folder, model_type="timm_wrapper", architectures=["TimmWrapperForImageClassification"])
    loaded = loading.load_model(folder)
    same(loaded, state)
    assert "prefix timm_model. of transformers' TimmWrapper removed" in loaded.weights.summary()


@pytest.mark.parametrize(
    "name", ["model_best.pth.tar", "checkpoint-12.pth", "last.pt", "best.ckpt"]
)
def test_the_entry_of_a_checkpoint_is_named(folder, state, name):
    (folder / "model.safetensors").unlink()
    ema = {key: value + 1 for key, value in state.items()}
    torch.save({"epoch": 3, "state_dict": state, "state_dict_ema": ema}, folder / name)
    refused(folder, f"only as pickle ({name})", "--allow-pickle")
    loaded = loading.load_model(folder, allow_pickle=True)
    same(loaded, ema)
    assert "entry state_dict_ema of the checkpoint, not state_dict" in loaded.weights.summary()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / name)
    loaded = loading.load_model(folder, allow_pickle=True)
    same(loaded, state)
    assert "entry state_dict of the checkpoint" in loaded.weights.summary()


def test_counters_that_no_forward_reads_may_be_missing(folder, state):
    kept = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    save_file(kept, folder / "model.safetensors")
    loaded = loading.load_model(folder)
    assert loaded.weights.problems == ()
    assert f"{len(state) - len(kept)} num_batches_tracked" in loaded.weights.summary()
    del kept["conv1.1.running_mean"]
    save_file(kept, folder / "model.safetensors")
    refused(folder, "1 missing in the file (conv1.1.running_mean)")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8])
def test_quantised_weights_are_refused(folder, state, dtype):
    save_file({**state, "fc.weight": state["fc.weight"].to(dtype)}, folder / "model.safetensors")
    refused(folder, "fc.weight as " + str(dtype)[6:], "float32, float16 or bfloat16")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_cast_and_said(folder, state, dtype):
    save_file({k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()},
              folder / "model.safetensors")  # fmt: skip
    assert f"tensors cast from {str(dtype)[6:]}" in loading.load_model(folder).weights.summary()


def test_a_byte_order_mark_is_no_part_of_json(folder, state):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text("\ufeff" + text, encoding="utf-8")
    same(loading.load_model(folder), state)


GREY = {"input_size": [1, 160, 160], "mean": [0.5], "std": [0.25]}


def test_grey_models_load_and_take_synthetic_images_and_photos(tmp_path):
    model = timm.create_model(NAME, in_chans=1)
    path = tmp_path / "grey"
    timm.models.save_for_hf(model, str(path), model_args={"in_chans": 1}, safe_serialization=True)
    config = json.loads((path / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 160, 160]
    (path / "config.json").write_text(json.dumps(config))
    refused(path, "`input_size`", "[3, 160, 160]", "model_args.in_chans is 1", "`mean` and `std`")
    config["pretrained_cfg"] |= GREY
    (path / "config.json").write_text(json.dumps(config))
    loaded = loading.load_model(path)
    assert loaded.data_config["input_size"] == (1, 160, 160)
    for kind in ("synthetic", "photos"):
        made = inputs.prepare_inputs(InputSource(kind), loaded.data_config, tmp_path / "c")
        assert loaded.model(inputs.load_inputs(made)).shape == (6, 1000)
    Image.fromarray(np.full((200, 200), 77, np.uint8)).save(tmp_path / "x.png")
    batch = inputs.preprocess([tmp_path / "x.png"], loaded.data_config)
    assert batch.shape == (1, 1, 160, 160)
    torch.testing.assert_close(batch, torch.full_like(batch, (77 / 255 - 0.5) / 0.25))


def test_a_lone_mean_is_that_of_every_channel(folder):
    write(folder, pretrained_cfg={"mean": [0.5], "std": [0.25]})
    assert loading.load_model(folder).data_config["mean"] == (0.5, 0.5, 0.5)
    write(folder, pretrained_cfg={"mean": [0.5, 0.5]})
    refused(folder, "`mean`", "2 numbers", "3 channels")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"interpolation": "random"}, ["`pretrained_cfg.interpolation`", "'random'", "'bicubic'"]),
        ({"interpolation": "lanczos3"}, ["'lanczos3'", "'lanczos'"]),
        ({"interpolation": 3}, ["pretrained_cfg.interpolation` in"]),
        ({"std": [0.2, 0.0, 0.2]}, ["pretrained_cfg.std", "std.1", "greater than 0"]),
        ({"std": [0.2, -1.0, 0.2]}, ["std.1"]),
        ({"std": []}, ["pretrained_cfg.std"]),
        ({"mean": [0.5, "x", 0.5]}, ["mean.1"]),
        ({"mean": [0.5, float("nan"), 0.5]}, ["mean.1", "finite"]),
        ({"mean": [123.675, 116.28, 103.53]}, ["mean.0", "divide those of 0 to 255"]),
        ({"std": [58.395, 57.12, 57.375]}, ["std.0", "divide those of 0 to 255"]),
        ({"crop_pct": 87.5}, ["crop_pct", "1.5"]),
        ({"crop_pct": 0}, ["crop_pct", "0.1"]),
        ({"crop_pct": 1e-9}, ["crop_pct"]),
        ({"crop_pct": "big"}, ["crop_pct"]),
        ({"crop_mode": "middle"}, ["crop_mode", "'center'"]),
        ({"input_size": [3, 0, 160]}, ["input_size.1"]),
        ({"input_size": [3, 10**6, 160]}, ["input_size.1", "4096"]),
        ({"input_size": [3, 160]}, ["input_size"]),
        ({"input_size": [1, 160, 160]}, ["[1, 160, 160]", "in_chans is not there, which means 3"]),
        ({"num_classes": True}, ["pretrained_cfg.num_classes"]),
        ({"num_classes": 10**9}, ["num_classes"]),
    ],
)
def test_values_of_config_json_are_checked(folder, values, words):
    write(folder, num_classes=None, pretrained_cfg=values)
    refused(folder, "config.json", *words)
    if "num_classes" not in values:  # the same where they stand flat
        write(folder, **values)
        refused(folder, "config.json", *(word.replace("pretrained_cfg.", "") for word in words))


def test_every_configuration_that_timm_publishes_is_taken():
    registered = timm.models._registry._model_pretrained_cfgs
    assert len(registered) > 1000
    for name, published in registered.items():
        given = {key: list(value) if isinstance(value, tuple) else value
                 for key, value in published.to_dict().items()}  # fmt: skip
        config_values.check({}, given, name)


def test_a_size_that_model_args_contradict_is_refused(folder):
    write(folder, model_args={"img_size": 384}, pretrained_cfg={"input_size": [3, 224, 224]})
    refused(folder, "img_size` is 384", "make them equal")
    save_file(timm.create_model(NAME, in_chans=4).state_dict(), folder / "model.safetensors")
    values = {"input_size": [4, 160, 160], "mean": [0.5] * 3, "std": [0.5] * 4}
    write(folder, model_args={"in_chans": 4}, pretrained_cfg=values)
    refused(folder, "`mean`", "3 numbers", "4 channels")


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (["a", "b"], "label_names has 2 names for 1000 classes: not used"),
        ({"0": "a"}, "label_names has 1 names for 1000 classes: not used"),
        ("cat", "is no list and no object: not used"),
        ([1] * 1000, "other values than texts: not used"),
    ],
)
def test_names_that_are_not_the_models_are_not_used_and_that_is_said(folder, names, note):
    write(folder, label_names=names)
    loaded = loading.load_model(folder)
    assert loaded.label_names is None and note in loaded.weights.summary()
    write(folder, label_names=[f"n{i}" for i in range(1000)])
    loaded = loading.load_model(folder)
    assert loaded.label_names[3] == "n3" and "label_names" not in loaded.weights.summary()
    write(folder, label_names=["crane", "kite", *(f"n{i}" for i in range(997)), "crane"])
    loaded = loading.load_model(folder)
    assert loaded.label_names[999] == "crane"
    assert "label_names has crane more than once" in loaded.weights.summary()


def test_two_numbers_of_classes_are_refused_not_chosen_from(folder):
    write(folder, num_classes=1000, model_args={"num_classes": 10})
    refused(folder, "num_classes 1000", "`model_args` 10", "remove the one")
    write(folder, num_classes=1000, model_args={"num_classes": 1000})
    assert loading.load_model(folder).num_classes == 1000


def test_a_stored_model_is_made_again_when_its_config_was_edited(tmp_path):
    source = ModelSource("architecture", NAME, num_classes=10)
    made = loading.materialise(source, tmp_path)
    text = (made / "config.json").read_text()
    edited = json.loads(text)
    edited["pretrained_cfg"]["mean"] = [0.0, 0.0, 0.0]
    (made / "config.json").write_text(json.dumps(edited))
    assert loading.materialise(source, tmp_path) == made
    assert (made / "config.json").read_text() == text
    stored = load_file(made / "model.safetensors")
    assert stored["fc.weight"].shape[0] == 10


def test_shards_without_their_index_are_said_to_be_that(folder, state):
    (folder / "model.safetensors").unlink()
    for part in ("00001-of-00002", "00002-of-00002"):
        save_file(state, folder / f"model-{part}.safetensors")
    said = refused(folder, "2 shards", "not their index", "model.safetensors.index.json")
    assert "rename" not in said


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["openvino_model.xml", "openvino_model.bin"], ["an OpenVINO model"]),
        (["adapter_config.json", "adapter_model.bin"], ["a PEFT adapter"]),
        (["weights-q4.gguf"], ["a GGUF model"]),
        (["model_fp16.engine"], ["a TensorRT engine"]),
    ],
)
def test_models_of_other_frameworks_are_named(folder, files, words):
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    for name in files:
        (folder / name).write_bytes(b"x")
    refused(folder, *words, allow_pickle=True)


def test_what_a_trainer_leaves_beside_weights_is_no_second_weights_file(folder, state):
    (folder / "model.safetensors").unlink()
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"lr": 0.1}, folder / name)
    refused(folder, "no weights file", allow_pickle=True)
    torch.save(state, folder / "checkpoint-best.pth")
    same(loading.load_model(folder, allow_pickle=True), state)
