import pytest

from harness.execution.reference.cache import ReferenceCache


@pytest.fixture
def cache(tmp_path) -> ReferenceCache:
    return ReferenceCache(tmp_path / "kept")
