"""Makes the harness' options and fixtures known to pytest."""

import harness  # noqa: F401  (sets the torch autoload switch before anything imports torch)

pytest_plugins = [
    "harness.entry.pytest_plugin.upgrade",
    "harness.entry.pytest_plugin.throughput",
    "harness.entry.pytest_plugin.large_runs",
    "harness.entry.pytest_plugin.ray_sweep",
    "harness.entry.pytest_plugin.own_modules",
    "harness.entry.pytest_plugin.accuracy",
    "harness.entry.pytest_plugin.html",
]
