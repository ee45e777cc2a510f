import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.cases import image_files, inputs
from harness.cases.case import InputSource
from harness.system.files import ROOT
from harness.system.status import CaseProblem, Status, UsageProblem

CONFIG = {
    "input_size": (3, 64, 48),
    "interpolation": "bicubic",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.25, 0.5),
    "crop_pct": 1.0,
    "crop_mode": "center",
}


def save(path: Path, colour=(200, 30, 60), size=(80, 70), **options) -> Path:
    Image.new("RGB", size, colour).save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["synthetic", "noise"])
def test_made_images_are_seeded_sized_and_normalised(tmp_path, kind):
    made = inputs.prepare_inputs(InputSource(kind, count=4), CONFIG, tmp_path)
    images = inputs.load_inputs(made)
    assert made.shape == tuple(images.shape) == (4, 3, 64, 48) and images.dtype == torch.float32
    mean, std = (torch.tensor(CONFIG[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    pixels = (images * std + mean) * 255
    assert float((pixels - pixels.round()).abs().max()) < 1e-3  # 8-bit images
    assert 0 <= pixels.min().round() and pixels.max().round() <= 255
    again = inputs.prepare_inputs(InputSource(kind, count=4), CONFIG, tmp_path)
    other = inputs.prepare_inputs(InputSource(kind, count=4, seed=1), CONFIG, tmp_path)
    assert again == made and other.sha256 != made.sha256
    assert made.path.name == f"{made.sha256}.safetensors" and len(made.labels) == 4


def test_damaged_store_is_replaced_and_never_used(tmp_path):
    source = InputSource("synthetic", count=2)
    made = inputs.prepare_inputs(source, CONFIG, tmp_path)
    content = bytearray(made.path.read_bytes())
    content[-1] ^= 1
    made.path.write_bytes(content)
    with pytest.raises(CaseProblem, match="no longer match") as caught:
        inputs.load_inputs(made)
    assert caught.value.status is Status.ERROR_HARNESS
    inputs.prepare_inputs(source, CONFIG, tmp_path)
    assert inputs.load_inputs(made).shape == made.shape
    made.path.unlink()
    with pytest.raises(CaseProblem, match="missing"):
        inputs.load_inputs(made)
    assert not [p for p in made.path.parent.iterdir() if p.name.startswith(".")]


def test_photos_come_from_the_installed_wheels(tmp_path):
    made = inputs.prepare_inputs(InputSource("photos"), CONFIG, tmp_path)
    assert made.labels == ("astronaut", "coffee", "chelsea", "rocket", "china", "flower")
    assert made.shape == (6, 3, 64, 48)


def test_missing_photo_package_is_named(monkeypatch):
    real = inputs.importlib.util.find_spec
    monkeypatch.setattr(
        inputs.importlib.util, "find_spec", lambda n: None if n == "sklearn" else real(n)
    )
    with pytest.raises(UsageProblem, match="pip install scikit-learn"):
        inputs.photo_paths()


def test_folder_is_sorted_and_goes_through_timms_transform(tmp_path):
    save(tmp_path / "b.png", (255, 0, 0))
    save(tmp_path / "a.JPG", (0, 0, 255), quality=100)
    (tmp_path / "notes.txt").write_text("not looked at")
    source = InputSource("images", path=str(tmp_path))
    made = inputs.prepare_inputs(source, CONFIG, tmp_path / "cache")
    assert made.labels == ("a.JPG", "b.png")
    red = inputs.load_inputs(made)[1].mean((1, 2))
    torch.testing.assert_close(red, torch.tensor([(1 - 0.5) / 0.2, -0.4 / 0.25, -0.3 / 0.5]))
    batch = inputs.preprocess([tmp_path / "a.JPG", tmp_path / "b.png"], CONFIG)
    assert torch.equal(batch, inputs.load_inputs(made))


def test_modes_become_upright_rgb(tmp_path):
    def pixel(name, at=(0, 0)):
        image = image_files.read(tmp_path / name)
        assert image.mode == "RGB"
        return image.getpixel(at)

    Image.new("L", (4, 4), 90).save(tmp_path / "grey.png")
    assert pixel("grey.png") == (90, 90, 90)
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "alpha.png")
    assert pixel("alpha.png") == (10, 20, 30)
    Image.new("RGB", (4, 4), (255, 0, 0)).quantize(4).save(tmp_path / "palette.png")
    assert pixel("palette.png") == (255, 0, 0)
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.tif")
    assert pixel("cmyk.tif") == (255, 0, 0)
    deep = np.full((4, 4), 128 * 257, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert pixel("deep.png") == (128, 128, 128)  # a plain convert gives 255
    turned = Image.new("RGB", (4, 2), (0, 0, 0))
    turned.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    turned.save(tmp_path / "turned.png", exif=exif)
    assert image_files.read(tmp_path / "turned.png").size == (2, 4)
    assert pixel("turned.png", (1, 0)) == (255, 255, 255)
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UsageProblem, match="floating-point"):
        image_files.read(tmp_path / "float.tif")


def bad(path: Path, *words: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        image_files.check(path)
    text = str(caught.value)
    assert path.name in text and "\n" not in text and text.endswith(".")
    for word in words:
        assert word in text, text


def test_bad_images(tmp_path):
    bad(tmp_path / "nowhere.png", "does not exist")
    (tmp_path / "empty").mkdir()
    bad(tmp_path / "empty", "holds no images", "JPEG")
    (tmp_path / "text.jpg").write_text("I am no image")
    bad(tmp_path / "text.jpg", "not an image", ".png")
    (tmp_path / "zero.png").touch()
    bad(tmp_path / "zero.png", "empty (0 bytes)")
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp"):
        whole = tmp_path / f"whole.{suffix}"
        noisy.save(whole)
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        bad(cut, "cut." + suffix)
    assert list(image_files.check(tmp_path / "whole.png").images) == ["whole.png"]


def test_one_bad_file_in_a_folder_is_named(tmp_path):
    save(tmp_path / "good.png")
    (tmp_path / "worse.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    with pytest.raises(UsageProblem, match=r"worse\.png"):
        inputs.prepare_inputs(InputSource("images", path=str(tmp_path)), CONFIG, tmp_path / "c")


def test_impossible_requests(tmp_path):
    with pytest.raises(UsageProblem, match="0 images"):
        inputs.prepare_inputs(InputSource("noise", count=0), CONFIG, tmp_path)
    with pytest.raises(UsageProblem, match="needs a path"):
        inputs.prepare_inputs(InputSource("images"), CONFIG, tmp_path)
    grey = {**CONFIG, "input_size": (1, 28, 28)}
    with pytest.raises(CaseProblem, match="takes 4 channels"):
        inputs.prepare_inputs(InputSource("noise"), {**grey, "input_size": (4, 8, 8)}, tmp_path)


def test_importing_and_checking_images_does_not_import_torch(tmp_path):
    save(tmp_path / "a.png")
    code = (
        "import sys; from harness.cases import image_files, inputs\n"
        "from harness.cases.models import class_names, loading, random_weights, sample\n"
        "from pathlib import Path\n"
        f"image_files.check(Path({str(tmp_path)!r})); inputs.photo_paths()\n"
        "print([m for m in ('torch', 'timm', 'skimage', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        cwd=ROOT,
    )
    assert done.stdout.strip() == "[]", done.stderr
