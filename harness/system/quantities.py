"""Types of command-line values, shared by pytest, `python -m harness` and inference.py."""

from __future__ import annotations

import argparse
import datetime
import re


def positive(text: str) -> int:
    """Whole number of at least one; raises argparse.ArgumentTypeError."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Whole number of at least zero; raises argparse.ArgumentTypeError."""
    return _whole(text, 0)


def seconds(text: str) -> float:
    """Positive, finite number of seconds; raises argparse.ArgumentTypeError."""
    return _above_zero(text, " of seconds")


def above_zero(text: str) -> float:
    """Positive, finite number; raises argparse.ArgumentTypeError."""
    return _above_zero(text)


def _above_zero(text: str, of_what: str = "") -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number{of_what}")
    return value


def batches(text: str) -> tuple[int, ...]:
    """Batch sizes, "1,6,8,32", each once; raises argparse.ArgumentTypeError."""
    return tuple(dict.fromkeys(positive(part.strip()) for part in text.split(",")))


def percent(text: str) -> float:
    """Number above 0 and up to 100, with or without a percent sign; as a share.

    Raises argparse.ArgumentTypeError.
    """
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = 0.0
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage above 0 and up to 100")
    return value / 100


def share(text: str) -> float:
    """Number from 0 to 1; raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def size(text: str) -> int:
    """Bytes: a number, alone or with kB, MB, GB or TB (powers of 1000).

    Raises argparse.ArgumentTypeError.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: give one such as 500MB or 10GB")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))


def days(text: str) -> datetime.timedelta:
    """Days, also parts of one, as a span of time; raises argparse.ArgumentTypeError."""
    try:
        span = datetime.timedelta(days=float(text))
    except (ValueError, OverflowError):
        span = -datetime.timedelta.resolution
    if span < datetime.timedelta():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return span


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return value
