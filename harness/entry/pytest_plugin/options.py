"""The harness' options in pytest, beside those of other plugins.

Names are common words: another plugin may have one of them.  Where values are kept is the harness'
alone, so that an option of another name never sets one.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from typing import Any

import pytest

_KEPT_AS = "harness_"


def adder(
    parser: pytest.Parser, plugins: pytest.PytestPluginManager, group: str, title: str
) -> Callable[..., None]:
    """What adds options to a group, with the arguments of argparse.

    It raises pytest.UsageError for an option that another plugin has.
    """
    add_to = parser.getgroup(group, title).addoption

    def add(name: str, **more: Any) -> None:
        try:
            add_to(name, dest=_KEPT_AS + name.removeprefix("--").replace("-", "_"), **more)
        except (ValueError, argparse.ArgumentError) as error:  # by pytest, by argparse
            owners = _owners(plugins, name) or ["NAME"]
            raise pytest.UsageError(
                f"The harness' option {name!r} is one of another pytest plugin as well: leave that "
                f"plugin out with {' '.join(f'-p no:{owner}' for owner in owners)}; `pip list` "
                "shows those that are installed."
            ) from error

    return add


def get(config: pytest.Config, name: str) -> Any:
    """The value of an option of the harness, named without dashes: "case_timeout"."""
    return config.getoption(_KEPT_AS + name)


def added(config: pytest.Config) -> bool:
    """Whether pytest has the harness' options: a page of records alone is made without them."""
    return any(name.startswith(_KEPT_AS) for name in vars(config.option))


def _owners(plugins: pytest.PytestPluginManager, option: str) -> list[str]:
    """The plugins whose code adds an option, by the name that -p takes."""
    found = []
    for name, plugin in plugins.list_name_plugin():
        try:
            source = inspect.getsource(getattr(plugin, "pytest_addoption", None))  # type: ignore[arg-type]
        except (OSError, TypeError):
            continue
        if f'"{option}"' in source or f"'{option}'" in source:
            found.append(name)
    return found
