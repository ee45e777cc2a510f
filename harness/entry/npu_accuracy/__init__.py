"""The pytest plugin that one line enables: `addopts = -p npu_accuracy`, or `pytest_plugins`.

In the wheel this folder is the package `npu_accuracy`, and `cases/` lies in it.  Importing it
imports nothing: only where it is enabled does pytest load what it names.
"""

pytest_plugins = [
    "harness.entry.pytest_plugin.upgrade",
    "harness.entry.pytest_plugin.throughput",
    "harness.entry.pytest_plugin.large_runs",
    "harness.entry.pytest_plugin.ray_sweep",
    "harness.entry.pytest_plugin.own_modules",
    "harness.entry.pytest_plugin.both_sides",
    "harness.entry.pytest_plugin.accuracy",
    "harness.entry.pytest_plugin.html",
]
