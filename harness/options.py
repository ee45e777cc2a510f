"""Types of command-line values, shared by pytest, `python -m harness` and inference.py."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Whole number of at least one; raises argparse.ArgumentTypeError."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Whole number of at least zero; raises argparse.ArgumentTypeError."""
    return _whole(text, 0)


def seconds(text: str) -> float:
    """Positive, finite number of seconds; raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return value
