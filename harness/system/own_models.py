"""A user's own timm architectures: modules that register them, named in the environment.

The environment, since every process of a run builds models: pytest's, the device's, those of
pytest-xdist.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from pathlib import Path

from harness.system.status import UsageProblem

VARIABLE = "HARNESS_TIMM_MODULES"


def names() -> list[str]:
    """Modules named in $HARNESS_TIMM_MODULES, separated by commas."""
    return [name for part in os.environ.get(VARIABLE, "").split(",") if (name := part.strip())]


def register() -> None:
    """Import them, after timm.  Raises UsageProblem for one that cannot be imported."""
    for name in names():
        try:
            importlib.import_module(name)
        except Exception as error:  # a module may raise what it likes
            raise UsageProblem(
                f"{VARIABLE} names {name!r}, which cannot be imported ({type(error).__name__}: "
                f"{error}): give modules on PYTHONPATH that call timm's register_model."
            ) from error


def fingerprint() -> str:
    """A hash of their sources, "" without any: what is stored of a model depends on it.

    Of a package all Python files below it.  Raises UsageProblem for a module that is not there.
    """
    digest = hashlib.sha256()
    for name in names():
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            raise UsageProblem(f"{VARIABLE} names {name!r}, which is no module on PYTHONPATH.")
        origin = Path(spec.origin)
        package = spec.submodule_search_locations is not None
        for path in sorted(origin.parent.rglob("*.py")) if package else [origin]:
            digest.update(f"{name}\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16] if names() else ""
