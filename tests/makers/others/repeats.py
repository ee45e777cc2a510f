"""Runs every test three times, as pytest-repeat does: by one more parameter."""

import pytest


@pytest.fixture
def step(request):
    return request.param


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc):
    metafunc.fixturenames.append("step")
    metafunc.parametrize("step", range(3), indirect=True, ids=[f"{i}-3" for i in range(1, 4)])
