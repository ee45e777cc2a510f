"""Makes the harness' options and fixtures known to pytest."""

import harness  # noqa: F401  (sets the torch autoload switch before anything imports torch)

pytest_plugins = [
    "harness.plugin_gate",
    "harness.plugin_throughput",
    "harness.plugin_scale",
    "harness.plugin_ray",
    "harness.plugin",
    "harness.plugin_html",
]
