"""Runs the tests in another order, as pytest-randomly and pytest-order do."""


def pytest_collection_modifyitems(items):
    items.reverse()
