"""Keeps options of its own where the harness' would be kept by their names alone."""


def pytest_addoption(parser):
    add = parser.getgroup("accuracy").addoption
    add("--browser-device", dest="device", default="phone")
    add("--browser-results", dest="results", default=3)
    add("--browser-list", dest="list", default="shopping")
