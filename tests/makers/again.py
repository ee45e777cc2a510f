"""A pytest plugin for runs in a process of their own: every test is run twice, as plugins that
rerun what failed do it: only the last report counts for pytest.  Before the second try
$AGAIN_HEALS lets a device that faults were planted in work again.
"""

import dataclasses
import os

from _pytest.runner import runtestprotocol

from harness.entry.pytest_plugin import state


def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem, log=False)
    item._initrequest()
    if os.environ.get("AGAIN_HEALS"):
        sides = state.session(item.config).runner.sides
        sides.settings = dataclasses.replace(sides.settings, fault_plan=None)
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
