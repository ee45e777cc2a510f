"""Runs every test in a process forked for it, as pytest-forked does."""

import os
import pickle

from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        data = [item.config.hook.pytest_report_to_serializable(
            config=item.config, report=report) for report in reports]  # fmt: skip
        with os.fdopen(writing, "wb") as stream:
            pickle.dump(data, stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        data = pickle.load(stream)
    os.waitpid(child, 0)
    for one in data:
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=one)
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
