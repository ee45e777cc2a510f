"""Seeded test images: structured ones that classifiers tell apart, and white noise.

Everything is made with numpy's PCG64 on the CPU and rounded to 8 bits, so that the images do
not depend on a device, on torch, or on the last bit of a sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
else:
    Array = Any

# The families take turns, so that a set of any size holds different kinds of image.
FAMILIES = ("clouds", "grating", "blobs", "tiles", "rays", "rings")


def _colours(rng: np.random.Generator, count: int) -> Array:
    """Colours [count, 3] in 0..1, drawn until neighbours differ clearly in some channel."""
    found = [rng.uniform(0.0, 1.0, 3)]
    while len(found) < count:
        colour = rng.uniform(0.0, 1.0, 3)
        if np.abs(colour - found[-1]).max() > 0.4:
            found.append(colour)
    return np.stack(found)


def _blend(field: Array, colours: Array) -> Array:
    """Map a field [H, W] in 0..1 to [3, H, W] by linear interpolation between colours."""
    stops = np.linspace(0.0, 1.0, len(colours))
    return np.stack([np.interp(field, stops, colours[:, c]) for c in range(3)])


def _power_noise(rng: np.random.Generator, height: int, width: int, exponent: float) -> Array:
    """Gaussian noise [H, W] whose amplitude spectrum falls as 1/f^exponent, scaled to 0..1.

    Natural images have an exponent near 1; 0 is white noise.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency**exponent
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(height, width))
    # Three standard deviations to each side: rare peaks must not flatten the rest.
    scaled: Array = np.clip(field / (6.0 * field.std() + 1e-12) + 0.5, 0.0, 1.0)
    return scaled


def _field(family: str, rng: np.random.Generator, height: int, width: int) -> Array:
    """One pattern [H, W] in 0..1; coordinates are in units of the image's height or width."""
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width), indexing="ij")
    angle = rng.uniform(0.0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    cy, cx = rng.uniform(-0.3, 0.3, 2)
    if family == "clouds":
        return _power_noise(rng, height, width, rng.uniform(0.7, 1.4))
    if family == "grating":
        wave = np.sin(2 * np.pi * rng.uniform(4.0, 24.0) * along)
        envelope = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * rng.uniform(0.15, 0.5) ** 2))
        return np.asarray(0.5 + 0.5 * wave * envelope)
    if family == "blobs":
        field = np.zeros((height, width))
        for _ in range(int(rng.integers(3, 12))):
            by, bx = rng.uniform(-0.5, 0.5, 2)
            ry, rx = rng.uniform(0.04, 0.25, 2)
            inside = ((y - by) / ry) ** 2 + ((x - bx) / rx) ** 2 < 1.0
            field[inside] = rng.uniform(0.2, 1.0)
        return field
    if family == "tiles":
        rows, columns = rng.uniform(3.0, 20.0, 2)
        even = (np.floor(along * rows) + np.floor(across * columns)) % 2
        return np.asarray(0.1 + 0.8 * even)
    if family == "rays":
        turn = np.arctan2(y - cy, x - cx)
        return np.asarray(0.5 + 0.5 * np.sign(np.sin(int(rng.integers(3, 20)) * turn + angle)))
    if family == "rings":
        radius = np.hypot(y - cy, x - cx)
        return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(3.0, 20.0) * radius + angle))
    raise ValueError(f"unknown family {family!r}; known: {', '.join(FAMILIES)}")


def _gradient(rng: np.random.Generator, height: int, width: int) -> Array:
    """Linear light [H, W] in 0..1, falling in a random direction."""
    angle = rng.uniform(0.0, 2 * np.pi)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.asarray(0.5 + 0.35 * (x * np.cos(angle) + y * np.sin(angle)))


def structured_image(family: str, rng: np.random.Generator, height: int, width: int) -> Array:
    """Return one image [3, H, W] in 0..1: a coloured pattern, shading and fine texture."""
    pattern = _blend(_field(family, rng, height, width), _colours(rng, int(rng.integers(2, 5))))
    shade = _gradient(rng, height, width)
    texture = _power_noise(rng, height, width, rng.uniform(0.0, 1.0))
    image = pattern * (0.6 + 0.8 * shade) + rng.uniform(0.05, 0.2) * (texture - 0.5)
    return np.asarray(np.clip(image, 0.0, 1.0))


def _to_8_bit(image: Array) -> Array:
    return np.round(np.clip(image, 0.0, 1.0) * 255.0) / 255.0


def grey(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images [N, 3, H, W] in 0..1 as their luma (ITU-R 601) [N, 1, H, W], multiples of 1/255."""
    weights = np.asarray([0.299, 0.587, 0.114])[None, :, None, None]
    luma = np.sum(images.astype(np.float64) * weights, axis=1, keepdims=True)
    return _to_8_bit(luma).astype(np.float32)


def synthetic_images(
    count: int, height: int, width: int, seed: int
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return structured images [count, 3, H, W], float32, multiples of 1/255, and their labels.

    Image i depends on `seed` and i only, so a larger set begins with the smaller one.
    """
    images, labels = [], []
    for index in range(count):
        family = FAMILIES[index % len(FAMILIES)]
        rng = np.random.default_rng([seed, index])
        images.append(_to_8_bit(structured_image(family, rng, height, width)))
        labels.append(f"{index} {family}")
    return np.stack(images).astype(np.float32), tuple(labels)


def noise_images(
    count: int, height: int, width: int, seed: int
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return uniform white noise [count, 3, H, W], float32, multiples of 1/255, and labels.

    Published reports use such images.  Real weights put all of them in one class: use them to
    repeat a report, not to find faults.
    """
    images = [
        _to_8_bit(np.random.default_rng([seed, index]).uniform(size=(3, height, width)))
        for index in range(count)
    ]
    return np.stack(images).astype(np.float32), tuple(f"{index} noise" for index in range(count))
