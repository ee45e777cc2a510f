"""Has a terminal reporter of its own, as pytest-sugar does."""

import pytest
from _pytest.terminal import TerminalReporter


class _Reporter(TerminalReporter):
    def summary_stats(self):
        self.write_line("Results of another reporter")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    standard = config.pluginmanager.get_plugin("terminalreporter")
    config.pluginmanager.unregister(standard)
    config.pluginmanager.register(_Reporter(config, standard._tw._file), "terminalreporter")
