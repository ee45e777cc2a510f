"""pytest options of the throughput measurement; the work is done elsewhere."""

from __future__ import annotations

import functools

import pytest

from harness.entry.pytest_plugin import options
from harness.records.throughput import (
    DEFAULT_BATCHES,
    DEFAULT_PRECISION_PERCENT,
    DEFAULT_SECONDS,
    ThroughputPlan,
)
from harness.system import quantities
from harness.system.status import UsageProblem


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options of the throughput measurement."""
    add = options.adder(parser, pluginmanager, "throughput", "NPU accuracy harness: throughput")
    add(
        "--throughput",
        action="store_true",
        help="after each verdict also measure throughput and latency of both sides, the CPU with "
        "the best of its settings; never part of the verdict",
    )
    add(
        "--throughput-batches",
        type=quantities.batches,
        metavar="LIST",
        help=f"batch sizes (default: {','.join(map(str, DEFAULT_BATCHES))})",
    )
    add(
        "--throughput-seconds",
        type=quantities.seconds,
        metavar="S",
        help=f"time for each case and side (default: {DEFAULT_SECONDS:g})",
    )
    add(
        "--throughput-precision",
        type=quantities.percent,
        metavar="PERCENT",
        help="stop earlier when the median latency is known as precisely, by its 95 %% interval "
        f"(default: {DEFAULT_PRECISION_PERCENT:g})",
    )


def plan(config: pytest.Config) -> ThroughputPlan | None:
    """What the command line asks for; None for nothing.

    Raises UsageProblem for options that would do nothing, and for several processes at once.
    """
    option = functools.partial(options.get, config)
    given = {
        name: option(f"throughput_{name}")
        for name in ("batches", "seconds", "precision")
        if option(f"throughput_{name}") is not None
    }
    if not option("throughput"):
        if given:
            raise UsageProblem(f"--throughput-{next(iter(given))} belongs to --throughput: add it.")
        return None
    if (config.getoption("numprocesses", None) or 0) > 1 or option("ray") is not None:
        raise UsageProblem(
            "--throughput times one thing at a time, and the processes of -n or --ray would "
            "disturb each other: leave -n and --ray out."
        )
    return ThroughputPlan(**given)
