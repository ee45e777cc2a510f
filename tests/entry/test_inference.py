import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import inference
from harness.entry.inference import TimmClassifier, main
from harness.system.status import UsageProblem


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for name in ("a.png", "b.jpg", "c.png"):
        paths.append(tmp_path / name)
        Image.fromarray(rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def test_predict_gives_softmax_probabilities_in_order(tiny_model, photos):
    classifier = inference.TimmClassifier(model_path=str(tiny_model), device="cpu")
    probabilities = classifier.predict([str(path) for path in photos])
    assert probabilities.shape == (3, 50)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    one = classifier.predict(photos[1])
    np.testing.assert_allclose(one[0], probabilities[1], rtol=1e-4)


def test_paths_pillow_images_and_arrays_give_the_same(tiny_model, photos):
    classifier = inference.TimmClassifier(tiny_model, device="cpu")
    paths = photos[::2]  # PNG: JPEG is decoded once, too, but by whom is not asked here
    images = [Image.open(path) for path in paths]
    arrays = [np.asarray(image) for image in images]
    wanted = classifier.predict(paths)
    for given in (images, arrays, np.stack(arrays), [paths[0], arrays[1]]):
        np.testing.assert_array_equal(classifier.predict(given), wanted)
    for single in (images[0], arrays[0]):
        np.testing.assert_allclose(classifier.predict(single), wanted[:1], rtol=1e-4)
    assert classifier.predict(arrays[0][..., 0]).shape == (1, 50)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((5, 5, 3), np.float32), "An array of float32 [5, 5, 3] is no image"),
        (np.zeros((5, 5, 7), np.uint8), "[5, 5, 7] is no image: its last dimension"),
        ([3], "A int is no image"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(tiny_model, given, said):
    with pytest.raises(UsageProblem) as problem:
        inference.TimmClassifier(tiny_model, device="cpu").predict(given)
    assert said in str(problem.value)


def test_batches_do_not_change_the_result(tiny_model, photos):
    whole = TimmClassifier(tiny_model, "cpu", batch_size=8).predict(photos)
    single = TimmClassifier(tiny_model, "cpu", batch_size=1).predict(photos)
    np.testing.assert_allclose(single, whole, rtol=1e-4, atol=1e-7)


def test_the_command_line_prints_a_top5(tiny_model, photos, capsys):
    assert (
        main(["--model_path", str(tiny_model), "--image", str(photos[0]), "--device", "cpu"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    ranks = [line.split()[0] for line in lines if line.startswith("  ")]
    assert ranks == ["1.", "2.", "3.", "4.", "5."]
    confidences = [float(line.split()[2]) for line in lines if line.startswith("  ")]
    assert confidences == sorted(confidences, reverse=True)


def test_json_holds_several_images_and_whole_folders(tiny_model, photos, capsys):
    code = main(
        ["--model_path", str(tiny_model), "--device", "cpu", "--json", "--top-k", "2",
         "--image", str(photos[0].parent), "--image", str(photos[0])]
    )  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert len(document["results"]) == 4
    assert all(len(result["top"]) == 2 and result["finite"] for result in document["results"])
    assert document["emulated"] is False


def test_without_an_image_a_synthetic_one_is_classified(tiny_model, capsys):
    assert main(["--model_path", str(tiny_model), "--device", "cpu"]) == 0
    assert "clouds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--image", "nope.png"], 4, "nope.png does not exist"),
        (["--device", "tpu"], 4, "Unknown device 'tpu'"),
        (["--batch-size", "0"], 4, "whole number of at least 1"),
        (["--num-classes", "7"], 1, "fail_load"),
        (["--model_path", "nowhere"], 4, "nowhere does not exist"),
        (["--model_path", "timm/resnet18.a1_in1k"], 4, "hf download timm/resnet18.a1_in1k"),
        (["--model_path", __file__], 4, "is a file, not a model directory"),
        (["--unknown"], 4, "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_sentence_with_its_exit_code(tiny_model, capsys, options, code, sentence):
    given = ["--model_path", str(tiny_model), "--device", "cpu", *options]
    assert main(given) == code
    assert sentence in capsys.readouterr().err


def test_cuda_without_a_gpu_says_so(tiny_model, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--model_path", str(tiny_model), "--device", "cuda"]) == 4
    assert "No CUDA device" in capsys.readouterr().err


def test_bad_calls_of_the_class(tiny_model):
    with pytest.raises(UsageProblem, match="at least 1"):
        TimmClassifier(tiny_model, "cpu", batch_size=0)
    with pytest.raises(UsageProblem, match="No images"):
        TimmClassifier(tiny_model, "cpu").predict([])
    with pytest.raises(UsageProblem, match="nowhere does not exist"):
        TimmClassifier("nowhere", "cpu")


@pytest.fixture
def encoder(copy_of):
    """The small model without its classifier."""
    path = copy_of("encoder")
    config = json.loads((path / "config.json").read_text())
    config["num_classes"] = config["pretrained_cfg"]["num_classes"] = 0
    (path / "config.json").write_text(json.dumps(config))
    state = load_file(path / "model.safetensors")
    save_file({k: v for k, v in state.items() if not k.startswith("fc.")},
              path / "model.safetensors")  # fmt: skip
    return path


def test_a_model_without_a_classifier_gives_its_features(encoder, photos, tmp_path, capsys):
    given = ["--model_path", str(encoder), "--device", "cpu", "--image", str(photos[0])]
    saved = tmp_path / "f.npy"
    assert main([*given, "--features", str(saved)]) == 0
    text = capsys.readouterr().out
    features = np.load(saved)
    assert features.ndim == 2 and features.shape[0] == 1
    assert "no classifier (num_classes is 0)" in text and "class " not in text
    norm = np.linalg.norm(features.astype(np.float64))
    assert f"shape [{features.shape[1]}], L2 norm {norm:.6g}" in text
    assert main([*given, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert row["l2_norm"] == pytest.approx(norm) and "top" not in row
    assert main([*given, "--features", str(tmp_path)]) == 4
    with pytest.raises(UsageProblem, match="no classifier"):
        TimmClassifier(encoder, "cpu").predict(photos[0])


def test_files_left_out_of_a_folder_are_said(tiny_model, photos, capsys):
    (photos[0].parent / "more.heic").write_bytes(b"x")
    code = main(["--model_path", str(tiny_model), "--device", "cpu", "--json", "--image",
                 str(photos[0].parent)])  # fmt: skip
    shown = capsys.readouterr()
    assert code == 0 and "1 .heic" in shown.err
    assert "pillow-heif" in json.loads(shown.out)["left_out"][0]


def test_a_single_output_is_no_class_of_which_one_can_be_sure(tiny_model, photos, tmp_path, capsys):
    """Its softmax is 1 whatever it says."""
    one = tmp_path / "one"
    one.mkdir()
    state = load_file(tiny_model / "model.safetensors")
    save_file({k: v[:1] if k.startswith("fc.") else v for k, v in state.items()},
              one / "model.safetensors")  # fmt: skip
    (one / "config.json").write_text(json.dumps({"architecture": "test_resnet", "num_classes": 1}))
    assert main(["--model_path", str(one), "--image", str(photos[0]), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "a single output (num_classes is 1)" in text and "1.0000" not in text
    classifier = TimmClassifier(one, "cpu")
    with pytest.raises(UsageProblem, match="num_classes is 1"):
        classifier.predict(photos[0])
    assert classifier.features(photos).shape == (3, 1)
