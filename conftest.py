"""Makes the harness' options and fixtures known to pytest."""

import harness  # noqa: F401  (sets the torch autoload switch before anything imports torch)

pytest_plugins = ["harness.entry.npu_accuracy"]
