import pytest

from harness.devices import npu_probe


@pytest.fixture(autouse=True)
def fresh_probe():
    npu_probe.probe.cache_clear()
    yield
    npu_probe.probe.cache_clear()
