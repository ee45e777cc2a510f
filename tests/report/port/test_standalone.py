"""The inference.py of a port, in a process that has no harness."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from harness.cases.models.timm_config import timm_config
from harness.entry.inference import TimmClassifier
from harness.report.port.sample import script
from harness.system.torchvision_shim import import_timm

DRIVER = """
import importlib.util, json, sys
from pathlib import Path
try:
    import harness
    sys.exit("the harness is here")
except ModuleNotFoundError:
    pass
sys.path.insert(0, sys.argv[1])
from inference import Problem, TimmClassifier, main
found = {}
for name in sys.argv[3:]:
    classifier = TimmClassifier(model_path=str(Path(sys.argv[2]) / name), device="cpu")
    call = classifier.predict if classifier.num_classes > 1 else classifier.features
    found[name] = call([str(Path(sys.argv[2]) / "photo.png")]).tolist()
    try:
        classifier.predict([str(Path(sys.argv[2]) / "photo.png")])
    except Problem as problem:
        found[name + " refused"] = str(problem)
Path(sys.argv[2], "found.json").write_text(json.dumps(found))
"""
KINDS = {
    "classes": {},
    "encoder": {"num_classes": 0},
    "two": {"num_classes": 2},
    "grey": {"in_chans": 1},
}


def isolated(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Python without this repository: -I leaves out the working directory and PYTHONPATH."""
    command = [sys.executable, "-I", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Path:
    """A folder with the script, a photo, and a small model of every kind."""
    import torch

    folder = tmp_path_factory.mktemp("port")
    (folder / "inference.py").write_text(script("some-model"))
    (folder / "driver.py").write_text(DRIVER)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    for name, arguments in KINDS.items():
        torch.manual_seed(0)
        model = import_timm().create_model("test_resnet", pretrained=False, **arguments)
        (folder / name).mkdir()
        config = timm_config("test_resnet", model, {"sha256": ""})
        if "in_chans" in arguments:
            config["model_args"] = {"in_chans": 1}
            config["pretrained_cfg"] |= {"input_size": [1, 160, 160], "mean": [0.5], "std": [0.5]}
        (folder / name / "config.json").write_text(json.dumps(config))
        save_file(model.state_dict(), folder / name / "model.safetensors")
    return folder


def test_it_gives_what_the_harness_gives_and_needs_none_of_it(port):
    done = isolated(port / "driver.py", port, port, *KINDS)
    assert done.returncode == 0, done.stderr
    found = json.loads((port / "found.json").read_text())
    for name in KINDS:
        ours = TimmClassifier(port / name, device="cpu")
        call = ours.predict if ours.has_classifier else ours.features
        np.testing.assert_allclose(found[name], call(port / "photo.png"), rtol=1e-6, atol=1e-7)
    assert "features()" in found["encoder refused"] and set(found) == {*KINDS, "encoder refused"}


def test_both_commands_print_the_five_likeliest(port):
    for image in ([], ["--image", port / "photo.png"]):
        done = isolated(port / "inference.py", "--model_path", port / "classes", *image,
                        "--device", "cpu", "--json", port / "out.json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        (result,) = json.loads((port / "out.json").read_text())["results"]
        assert len(result["top"]) == 5
        for rank, top in enumerate(result["top"], start=1):
            assert (
                f"{rank}. {top['index']:>4}  {top['confidence']:.6f}  {top['name']}" in done.stdout
            )


def test_bad_input_is_one_sentence(port, tmp_path):
    state = {"wrong.weight": __import__("torch").zeros(1)}
    (tmp_path / "config.json").write_text((port / "classes" / "config.json").read_text())
    for prepare, arguments, code, word in (
        (None, ("--model_path", tmp_path / "nowhere"), 4, "timm model directory"),
        (None, ("--model_path", port / "classes", "--device", "tpu"), 4, "none of npu"),
        (None, ("--model_path", port / "classes", "--image", "/nowhere.png"), 4, "no image"),
        (None, ("--model_path", tmp_path), 4, "There is no"),
        (lambda: save_file(state, tmp_path / "model.safetensors"), ("--model_path", tmp_path), 1,
         "do not fit config.json"),
    ):  # fmt: skip
        if prepare is not None:
            prepare()
        device = [] if "--device" in arguments else ["--device", "cpu"]
        done = isolated(port / "inference.py", *arguments, *device)
        assert done.returncode == code, done.stderr
        assert word in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_name_cannot_become_code():
    text = script('"""\nimport os  # \\')
    compile(text, "inference.py", "exec")
    assert '"""\nimport os' not in text.split("from __future__")[0].removeprefix('"""')[:400]
