"""What was found of a folder of images, and what was left out of it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.system.messages import listed, say


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
        said = [
            say(
                "images.of_a_kind",
                "{count} {why} ({names})",
                count=len(names),
                why=why,
                names=_first(names),
            )
            for why, names in whys.items()
        ]
        return say(
            "images.account",
            "{read} of {total} files were read{frames}{left_out}",
            read=len(self.images),
            total=len(self.images) + len(self.left_out),
            frames=say("images.frames", ", of {count} the first frame alone ({names})",
                       count=len(self.animated), names=_first(self.animated))
            if self.animated else "",
            left_out=say("images.left_out", "; left out: {files}",
                         files=listed(said, "semicolon", "{left}; {right}"))
            if said else "",
        )  # fmt: skip


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:2])}{', ...' if len(names) > 2 else ''}"
