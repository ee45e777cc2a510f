"""Image files: which of a folder are read, which are not and why, and their pixels as 8-bit RGB.

Pillow is imported inside functions: `--help` must stay quick.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import functools
import importlib.util
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.case import MOST_IMAGES
from harness.system import foreign
from harness.system.files import as_text
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
_COMMON = "BMP, GIF, JPEG, PNG, TIFF, WebP and what else Pillow reads"


@dataclasses.dataclass(frozen=True)
class Found:
    """Files of a path: label -> image, and (name, why) of those that are not read.

    `animated`: labels of files with several frames or pages, of which the first is read.
    """

    images: dict[str, Path]
    left_out: tuple[tuple[str, str], ...] = ()
    animated: tuple[str, ...] = ()

    @property
    def account(self) -> str:
        """How many were left out and why, a phrase; "" when all were read whole."""
        if not self.left_out and not self.animated:
            return ""
        whys = collections.defaultdict(list)
        for name, why in self.left_out:
            whys[why].append(name)
        said = [f"{len(names)} {why} {_first(names)}" for why, names in whys.items()]
        total = len(self.images) + len(self.left_out)
        found = f"{len(self.images)} of {total} files were read"
        if self.animated:
            found += f", of {len(self.animated)} the first frame alone {_first(self.animated)}"
        return f"{found}; left out: {'; '.join(said)}" if said else found


def _first(names: Sequence[str]) -> str:
    return f"({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"


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
        raise UsageProblem(f"Image path {path} does not exist: check the path.")
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
            f"Folder {as_text(error.filename or path)} cannot be read: {error.strerror}."
        ) from error
    found = _with_frames(images, left_out)
    if not images:
        said = f" ({found.account})" if left_out else ""
        raise UsageProblem(f"Folder {path} holds no images{said}: add some ({_COMMON}).")
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
        return "hidden"
    if file.is_dir():
        return "folders more than one level deep"
    if not file.is_file():
        return "no regular files"
    if suffix in formats()[1]:
        return ""
    package = _PLUGINS.get(suffix)
    if package is not None:
        return f"{suffix}, which `pip install {package}` lets Pillow read"
    return f"{suffix} files, no image format that is read" if suffix else "without a suffix"


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
        raise UsageProblem(f"{name} is empty (0 bytes): copy the image again or remove it.")
    try:
        with _opened(path) as opened:
            _check_shape(opened, name)
            opened.load()
            kind = opened.format
            image = ImageOps.exif_transpose(opened)
        return _to_rgb(image, kind, name)
    except UnidentifiedImageError:
        raise UsageProblem(
            f"{name} is not an image Pillow can read: give one of .jpg, .png, .tif, .webp."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageProblem(f"{name} is too large ({error}): scale it down.") from None
    except MemoryError:
        raise UsageProblem(
            f"{name} needs more memory than there is: scale it down, or end other programs."
        ) from None
    except UsageProblem:
        raise
    except Exception as error:  # plugins raise what they like on damaged files
        said = str(error) or type(error).__name__
        raise UsageProblem(
            f"{name} is a damaged or truncated image ({said}): copy it again or remove it."
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
            f"An array {list(given.shape)} is no image: its last dimension is to be 1, 3 or 4."
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
            f"{name} is {image.width}x{image.height}: one side is more than {_MOST_ASPECT} times "
            "the other; crop it."
        )


def check_pixels(paths: Iterable[Path]) -> None:
    """Look at sizes before anything is decoded.  Raises UsageProblem for too much in all."""
    paths = list(paths)
    if len(paths) > MOST_IMAGES:
        raise UsageProblem(f"{len(paths)} images are too many: give {MOST_IMAGES} or fewer.")
    total = 0
    for path in paths:
        with contextlib.suppress(Exception), _opened(path) as opened:  # said when it is read
            total += opened.width * opened.height
    if total > _MOST_PIXELS:
        raise UsageProblem(
            f"The {len(paths)} images have {total / 1e6:.0f} megapixels, more than the "
            f"{_MOST_PIXELS / 1e6:.0f} that are read: scale them down or give fewer."
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
                f"{name} has 16-bit pixels of which none exceeds {top}: it uses {top.bit_length()} "
                "bits, and would come out nearly black; scale it to all 16, or save it with 8."
            )
        return Image.fromarray(np.round(values / 257.0).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if mode not in _PLAIN:
        what = {"F": "floating-point pixels", "I": "32-bit integer pixels"}.get(
            mode, f"pixels of mode {mode}"
        )
        raise UsageProblem(f"{name} holds {what}, whose range is not known: save it with 8 bits.")
    if mode in ("La", "RGBa"):
        image = image.convert("LA" if mode == "La" else "RGBA")
    elif mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
