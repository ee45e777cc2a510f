"""The images of a case as a reader sees them: a small picture, and what both sides call it."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import pydantic

MOST_VIEWS = 6  # images of a case that a record shows
PICTURE_SIDE = 64  # pixels, of the longer side

# Base64 alone: it goes into a page as it is.
Jpeg = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$", max_length=8192)]


@dataclasses.dataclass(frozen=True)
class Guess:
    """One of a side's most probable classes, with its probability."""

    index: int
    name: str
    probability: float


@dataclasses.dataclass(frozen=True)
class ImageView:
    """One image of a case.

    `image`: its number; `jpeg`: the pixels that the model got, base64, "" where they were not
    kept.  `cpu`, `device`: the five most probable classes of each side, the most probable first;
    empty for a model without a classifier.
    """

    image: int
    jpeg: Jpeg = ""
    cpu: tuple[Guess, ...] = ()
    device: tuple[Guess, ...] = ()
