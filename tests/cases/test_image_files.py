"""Every file of a folder is read or accounted for, and no pixel format is taken for another."""

import os

import numpy as np
import pytest
import torch
from PIL import Image, features

from harness.cases import image_files, inputs
from harness.cases.case import InputSource
from harness.system.status import UsageProblem

CONFIG = {
    "input_size": (3, 32, 32), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.25,) * 3,
    "crop_pct": 1.0, "crop_mode": "center",
}  # fmt: skip


def save(path, colour=(200, 30, 60), size=(40, 40), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def test_every_file_of_a_folder_is_read_or_named_with_the_reason(tmp_path):
    save(tmp_path / "a.jfif", format="JPEG")
    save(tmp_path / "b.PNG", colour=(0, 90, 0), format="PNG")
    save(tmp_path / "cat" / "c.webp", colour=(0, 0, 90))
    save(tmp_path / "cat" / "deeper" / "d.png")
    (tmp_path / "e.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "f.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "labels.csv").write_text("a,1")
    (tmp_path / "README").write_text("photos")
    (tmp_path / "._b.PNG").write_bytes(b"AppleDouble")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = image_files.check(tmp_path)
    assert list(found.images) == ["a.jfif", "b.PNG", "cat/c.webp"]
    assert found.account == (
        "3 of 10 files were read; left out: 1 hidden (._b.PNG); 1 without a suffix (README); 1 "
        "folders more than one level deep (cat/deeper); 2 .heic, which `pip install pillow-heif` "
        "lets Pillow read (e.heic, f.heic); 1 no regular files (gone.png); 1 .csv files, no image "
        "format that is read (labels.csv)"
    )
    made = inputs.prepare_inputs(InputSource("images", path=str(tmp_path)), CONFIG, tmp_path / "c")
    assert made.left_out == found.account and made.labels == tuple(found.images)


def test_a_picture_that_is_there_twice_is_one_image(tmp_path):
    rng = np.random.default_rng(0)
    first, second = (
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(2)
    )
    (tmp_path / "x").mkdir()
    first.save(tmp_path / "a.png")
    first.save(tmp_path / "b.bmp")
    second.save(tmp_path / "c.png")
    first.save(tmp_path / "x" / "a.png")
    made = inputs.prepare_inputs(InputSource("images", path=str(tmp_path)), CONFIG, tmp_path / "o")
    assert made.labels == ("a.png", "c.png") and made.count == 2
    assert made.left_out == (
        "2 of 4 files were read; left out: 2 the same picture as an earlier file (b.bmp, x/a.png)"
    )
    wanted = inputs.preprocess([tmp_path / "a.png", tmp_path / "c.png"], CONFIG)
    assert torch.equal(inputs.load_inputs(made), wanted)


def test_files_that_differ_in_case_or_suffix_have_labels_of_their_own(tmp_path):
    for at, name in enumerate(("A.png", "a.PNG", "a.bmp", "a.png")):
        save(tmp_path / name, colour=(60 * at, 0, 0))
    made = inputs.prepare_inputs(InputSource("images", path=str(tmp_path)), CONFIG, tmp_path / "o")
    assert made.labels == ("A.png", "a.PNG", "a.bmp", "a.png") and made.left_out == ""


def test_class_folders_are_read_one_level_deep(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        save(tmp_path / name)
    found = image_files.check(tmp_path)
    assert (list(found.images), found.account) == (["cat/1.png", "cat/2.png", "dog/1.png"], "")


def test_a_folder_of_what_is_not_read_says_what_is_there(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(UsageProblem, match=r"holds no images \(0 of 1 files were read; .*heif"):
        image_files.check(tmp_path)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".tga", ".jp2", ".avif", ".ppm", ".ico"])
def test_what_pillow_reads_is_read(tmp_path, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    save(tmp_path / f"x{suffix}")
    pixel = image_files.read(tmp_path / f"x{suffix}").getpixel((20, 20))
    assert np.abs(np.subtract(pixel, (200, 30, 60))).max() <= 6


def test_no_other_program_is_started_for_an_image(tmp_path):
    save(tmp_path / "x.eps")
    with pytest.raises(UsageProblem, match="not an image"):
        image_files.read(tmp_path / "x.eps")


@pytest.mark.parametrize(
    ("mode", "dtype", "top", "sentence"),
    [
        ("I", np.int32, 70_000, "32-bit integer pixels, whose range is not known"),
        ("I", np.int32, 255, "32-bit integer pixels"),
        ("F", np.float32, 1.0, "floating-point pixels"),
        ("I;16", np.uint16, 4095, "none exceeds 4095: it uses 12 bits"),
        ("I;16", np.uint16, 1023, "uses 10 bits"),
    ],
)
def test_pixels_whose_range_is_not_known_are_refused(tmp_path, mode, dtype, top, sentence):
    ramp = np.linspace(0, top, 64).reshape(8, 8).astype(dtype)
    image = Image.fromarray(ramp)
    assert image.mode == mode
    image.save(tmp_path / "x.tif")
    with pytest.raises(UsageProblem, match=sentence):
        image_files.read(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_whatever_file_holds_them(tmp_path, suffix):
    ramp = np.array([[0, 257, 128 * 257, 65535]] * 4, dtype=np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"x.{suffix}")
    image = image_files.read(tmp_path / f"x.{suffix}")
    assert image.mode == "RGB"
    assert [image.getpixel((i, 0))[0] for i in range(4)] == [0, 1, 128, 255]


def test_black_is_no_sign_of_few_bits(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "x.png")
    assert image_files.read(tmp_path / "x.png").getpixel((0, 0)) == (0, 0, 0)


def test_a_mode_that_cannot_be_converted_is_a_sentence(tmp_path):
    Image.new("LAB", (4, 4)).save(tmp_path / "x.tif")
    with pytest.raises(UsageProblem, match="pixels of mode LAB"):
        image_files.read(tmp_path / "x.tif")


@pytest.mark.parametrize("size", [(1, 101), (50_000, 3), (1, 60_000)])
def test_a_strip_is_refused_before_it_is_scaled(tmp_path, size):
    save(tmp_path / "x.png", size=size)
    with pytest.raises(UsageProblem, match=f"is {size[0]}x{size[1]}: one side is more than 100"):
        image_files.read(tmp_path / "x.png")


def test_memory_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    save(tmp_path / "x.png")

    def short(*_):
        raise MemoryError

    monkeypatch.setattr(image_files, "_to_rgb", short)
    with pytest.raises(UsageProblem, match="more memory than there is"):
        image_files.read(tmp_path / "x.png")


def test_names_in_other_encodings_become_text(tmp_path):
    name = os.fsdecode("照片.png".encode("gbk"))
    save(tmp_path / "good.png")
    os.rename(tmp_path / "good.png", tmp_path / name)
    made = inputs.prepare_inputs(InputSource("images", path=str(tmp_path)), CONFIG, tmp_path / "c")
    assert made.labels == ("\\xd5\\xd5Ƭ.png",)
    for text in (*made.labels, made.description, made.left_out):
        text.encode("utf-8")


@pytest.mark.parametrize("kind", ["synthetic", "noise", "photos", "images"])
def test_grey_models_get_one_channel(tmp_path, kind):
    config = {**CONFIG, "input_size": (1, 32, 32), "mean": (0.5,), "std": (0.25,)}
    save(tmp_path / "in" / "x.png", (255, 0, 0))
    source = InputSource(kind, path=str(tmp_path / "in") if kind == "images" else None)
    made = inputs.prepare_inputs(source, config, tmp_path / "c")
    images = inputs.load_inputs(made)
    assert images.shape[1:] == (1, 32, 32)
    if kind == "images":  # ITU-R 601: 0.299 x 255
        grey = torch.full((1, 32, 32), (76 / 255 - 0.5) / 0.25)
        torch.testing.assert_close(images[0], grey)


def test_of_an_animation_and_of_pages_the_first_is_taken_and_that_is_said(tmp_path):
    red, blue = (Image.new("RGB", (20, 20), color) for color in ("red", "blue"))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    red.save(tmp_path / "b.tif", save_all=True, append_images=[blue])
    red.save(tmp_path / "c.png")
    found = image_files.check(tmp_path)
    assert found.account == "3 of 3 files were read, of 2 the first frame alone (a.gif, b.tif)"
    assert image_files.read(tmp_path / "b.tif").getpixel((0, 0)) == (255, 0, 0)
    (tmp_path / "notes.txt").write_text("x")
    assert image_files.find(tmp_path).account.endswith(
        "(a.gif, b.tif); left out: 1 .txt files, no image format that is read (notes.txt)"
    )
    assert image_files.find(tmp_path / "c.png").account == ""
    assert "first frame alone" in image_files.find(tmp_path / "a.gif").account
