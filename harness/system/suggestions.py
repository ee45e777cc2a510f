"""What somebody may have meant who misspelt a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from harness.system.messages import listed


def near(word: str, known: Iterable[str], count: int = 3) -> str:
    """The known names nearest to a word, each once, as "a or b"; "" where none is near."""
    found = difflib.get_close_matches(word, list(dict.fromkeys(known)), n=count)
    return listed(found or [""], "or", "{left} or {right}")
