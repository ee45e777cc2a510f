"""Image files: which of a folder are read, which are not and why, and their pixels as 8-bit RGB.

Pillow is imported inside functions: `--help` must stay quick.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.util
import io
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.case import MOST_IMAGES
from harness.cases.found_files import Found
from harness.system import foreign
from harness.system.files import as_text
from harness.system.messages import say
from harness.system.status import UsageProblem

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

# Of all images of a set: forty of a common camera are decoded within a minute.
_MOST_PIXELS = 10**9
# Scaled to a model's shorter side, a strip a hundred times as long is 22,400 pixels of 224.
_MOST_ASPECT = 100
# What Pillow opens by another program, or cannot decode itself.
_NOT_OURS = frozenset(("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS", "PCD"))
# Suffix -> what lets Pillow read it.
_PLUGINS = dict.fromkeys((".heic", ".heif", ".hif"), "pillow-heif") | {".jxl": "pillow-jxl-plugin"}
_MODULES = {"pillow-heif": "pillow_heif", "pillow-jxl-plugin": "pillow_jxl"}
# Modes whose every value means the same in any file; "I" and "F" are not among them.
_PLAIN = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
)
_DEEP = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))
# Readers of these formats scale to 16 bits where they give mode I.
_DEEP_FORMATS = frozenset(("PNG", "PPM"))
# Cameras of 10 to 14 bits leave the upper bits empty, and the picture nearly black.
_LEAST_DEEP = 1 << 14
_COMMON = say("images.common", "BMP, GIF, JPEG, PNG, TIFF, WebP and what else Pillow reads")


@functools.cache
def formats() -> tuple[tuple[str, ...], frozenset[str]]:
    """The formats that are read, by Pillow's names, and the suffixes of their files.

    A plugin that is installed is asked to register its own.
    """
    from PIL import Image

    Image.init()
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif  # type: ignore[import-not-found]

        pillow_heif.register_heif_opener()
    if importlib.util.find_spec("pillow_jxl") is not None:
        importlib.import_module("pillow_jxl")
    names = tuple(sorted(set(Image.OPEN) - _NOT_OURS))
    extensions = Image.registered_extensions()
    return names, frozenset(suffix for suffix, name in extensions.items() if name in names)


def find(path: Path) -> Found:
    """The image files at `path`: a file, or a folder's and those of its folders, one level deep.

    Sorted by name; labels are relative to the folder.  Raises UsageProblem when there is none.
    """
    if not os.path.exists(path):
        raise UsageProblem(
            say("images.no_path", "Image path {path} does not exist: check the path.", path=path)
        )
    if not os.path.isdir(path):
        return _with_frames({as_text(path.name): path}, [])
    images: dict[str, Path] = {}
    left_out: list[tuple[str, str]] = []
    try:
        for entry in sorted(path.iterdir()):
            deeper = entry.is_dir() and not entry.name.startswith(".")
            for file in sorted(entry.iterdir()) if deeper else (entry,):
                name = as_text(file.relative_to(path))
                if why := why_not(file):
                    left_out.append((name, why))
                else:
                    images[name] = file
    except OSError as error:
        raise UsageProblem(
            say(
                "images.folder",
                "Folder {path} cannot be read: {error}.",
                path=as_text(error.filename or path),
                error=error.strerror,
            )
        ) from error
    found = _with_frames(images, left_out)
    if not images:
        said = say("in_brackets", " ({text})", text=found.account) if left_out else ""
        raise UsageProblem(
            say(
                "images.none",
                "Folder {path} holds no images{said}: add some ({formats}).",
                path=path,
                said=said,
                formats=_COMMON,
            )
        )
    return found


def _with_frames(images: dict[str, Path], left_out: list[tuple[str, str]]) -> Found:
    """What was found, with a look at how many frames the files have."""
    animated = []
    for label, path in images.items():
        with contextlib.suppress(Exception), _opened(path) as opened:  # said when it is read
            # A camera's MPO holds a preview beside the picture.
            if getattr(opened, "is_animated", False) and opened.format != "MPO":
                animated.append(label)
    return Found(images, tuple(left_out), tuple(animated))


def why_not(file: Path) -> str:
    """Why a file of a folder is not read; "" for one that is."""
    suffix = file.suffix.lower()
    if file.name.startswith("."):
        return say("images.hidden", "hidden")
    if file.is_dir():
        return say("images.deep", "folders more than one level deep")
    if not file.is_file():
        return say("images.irregular", "no regular files")
    if suffix in formats()[1]:
        return ""
    package = _PLUGINS.get(suffix)
    if package is not None:
        return say("images.plugin", "{suffix}, which `pip install {package}` lets Pillow read",
                   suffix=suffix, package=package)  # fmt: skip
    if not suffix:
        return say("images.no_suffix", "without a suffix")
    return say("images.no_format", "{suffix} files, no image format that is read", suffix=suffix)


def check(path: Path) -> Found:
    """Find the image files at a path and decode each once, so that a bad one is found early.

    Does not import torch.  Raises UsageProblem: path missing, no images, a file that is not an
    image, a truncated or empty one.
    """
    found = find(Path(path))
    check_pixels(found.images.values())
    for file in found.images.values():
        read(file)
    return found


def read(path: Path) -> Image.Image:
    """Read one image file as 8-bit RGB, upright.

    The EXIF orientation is applied, as image viewers do.  16-bit grey is scaled by 1/257 (a
    plain convert would clip it to white); alpha is dropped, palettes are resolved; of an
    animation the first frame is taken.  Raises UsageProblem naming the file and the remedy.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = as_text(path)
    if path.is_file() and path.stat().st_size == 0:
        raise UsageProblem(
            say(
                "images.empty",
                "{name} is empty (0 bytes): copy the image again or remove it.",
                name=name,
            )
        )
    try:
        with _opened(path) as opened:
            _check_shape(opened, name)
            opened.load()
            kind = opened.format
            image = ImageOps.exif_transpose(opened)
        return _to_rgb(image, kind, name)
    except UnidentifiedImageError:
        raise UsageProblem(
            say(
                "images.unknown",
                "{name} is not an image Pillow can read: give one of .jpg, .png, .tif, .webp.",
                name=name,
            )
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageProblem(
            say(
                "images.too_large",
                "{name} is too large ({error}): scale it down.",
                name=name,
                error=error,
            )
        ) from None
    except MemoryError:
        raise UsageProblem(
            say(
                "images.memory",
                "{name} needs more memory than there is: scale it down, or end other programs.",
                name=name,
            )
        ) from None
    except UsageProblem:
        raise
    except Exception as error:  # plugins raise what they like on damaged files
        said = str(error) or type(error).__name__
        raise UsageProblem(
            say(
                "images.damaged",
                "{name} is a damaged or truncated image ({said}): copy it again or remove it.",
                name=name,
                said=said,
            )
        ) from None


def taken(given: str | Path | Image.Image | npt.NDArray[Any]) -> Image.Image:
    """An image as 8-bit RGB, upright, from a path, a Pillow image or an array of uint8.

    Arrays: [H, W] grey, or [H, W, C] with C = 1, 3 or 4 (alpha is dropped).  Raises UsageProblem as
    `read`, and for what is none of these.
    """
    from PIL import Image, ImageOps

    if isinstance(given, (str, Path)):
        return read(Path(given))
    if isinstance(given, Image.Image):
        _check_shape(given, "The image")
        return _to_rgb(ImageOps.exif_transpose(given), given.format, "The image")
    dtype, shape = (getattr(given, name, None) for name in ("dtype", "shape"))
    if str(dtype) != "uint8" or len(shape or ()) not in (2, 3):
        said = f"an array of {dtype} {list(shape)}" if shape else f"a {type(given).__name__}"
        raise UsageProblem(
            f"{said[0].upper()}{said[1:]} is no image: give a path, a Pillow image, or uint8 "
            "[H, W, 3]; what is preprocessed already goes to predict_tensor."
        )
    grey = given[..., 0] if given.ndim == 3 and given.shape[2] == 1 else given
    try:
        image = Image.fromarray(grey)
    except (TypeError, ValueError):
        raise UsageProblem(
            say(
                "images.array",
                "An array {shape} is no image: its last dimension is to be 1, 3 or 4.",
                shape=list(given.shape),
            )
        ) from None
    _check_shape(image, "The image")
    return _to_rgb(image, None, "The image")


def small_jpeg(image: Image.Image, side: int, quality: int) -> str:
    """An image as JPEG in base64, its longer side at most `side` pixels; it is made smaller."""
    image.thumbnail((side, side))
    image.save(file := io.BytesIO(), "JPEG", quality=quality)
    return base64.b64encode(file.getvalue()).decode("ascii")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image whose header was read; what Pillow warns of as a decompression bomb is refused."""
    from PIL import Image

    with foreign.open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=formats()[0]) as opened:
            yield opened


def _check_shape(image: Image.Image, name: str) -> None:
    """Before it is decoded or scaled: a strip would be scaled to its shorter side."""
    short, long = sorted(image.size)
    if long > _MOST_ASPECT * max(1, short):
        raise UsageProblem(
            say(
                "images.strip",
                "{name} is {width}x{height}: one side is more than {most} times the other; "
                "crop it.",
                name=name,
                width=image.width,
                height=image.height,
                most=_MOST_ASPECT,
            )
        )


def check_pixels(paths: Iterable[Path]) -> None:
    """Look at sizes before anything is decoded.  Raises UsageProblem for too much in all."""
    paths = list(paths)
    if len(paths) > MOST_IMAGES:
        raise UsageProblem(
            say(
                "images.too_many",
                "{count} images are too many: give {most} or fewer.",
                count=len(paths),
                most=MOST_IMAGES,
            )
        )
    total = 0
    for path in paths:
        with contextlib.suppress(Exception), _opened(path) as opened:  # said when it is read
            total += opened.width * opened.height
    if total > _MOST_PIXELS:
        raise UsageProblem(
            say(
                "images.pixels",
                "The {count} images have {pixels} megapixels, more than the {most} that are "
                "read: scale them down or give fewer.",
                count=len(paths),
                pixels=f"{total / 1e6:.0f}",
                most=f"{_MOST_PIXELS / 1e6:.0f}",
            )
        )


def _to_rgb(image: Image.Image, kind: str | None, name: str) -> Image.Image:
    """By its exact mode: what one mode's values mean says nothing of its neighbours'."""
    import numpy as np
    from PIL import Image

    mode = image.mode
    if mode in _DEEP or (mode == "I" and kind in _DEEP_FORMATS):
        values = np.asarray(image, dtype=np.float64)
        top = int(values.max(initial=0.0))
        if 0 < top < _LEAST_DEEP:
            raise UsageProblem(
                say(
                    "images.dark",
                    "{name} has 16-bit pixels of which none exceeds {top}: it uses {bits} bits, "
                    "and would come out nearly black; scale it to all 16, or save it with 8.",
                    name=name,
                    top=top,
                    bits=top.bit_length(),
                )
            )
        return Image.fromarray(np.round(values / 257.0).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if mode not in _PLAIN:
        what = say("images.mode", "pixels of mode {mode}", mode=mode)
        if mode == "F":
            what = say("images.floating", "floating-point pixels")
        elif mode == "I":
            what = say("images.integer", "32-bit integer pixels")
        raise UsageProblem(
            say(
                "images.range",
                "{name} holds {what}, whose range is not known: save it with 8 bits.",
                name=name,
                what=what,
            )
        )
    if mode in ("La", "RGBa"):
        image = image.convert("LA" if mode == "La" else "RGBA")
    elif mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
