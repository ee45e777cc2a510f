"""A pytest plugin for runs in a process of their own: a case ends at once and without a model, so
that what other plugins do to a run shows quickly.

$INSTANT, a JSON object, says of the models of cases otherwise: {"status": a status, "seconds": how
long it takes}.
"""

import json
import os
import time

from harness.execution.sides import Sides
from harness.runs.runner import CaseRunner
from harness.system.status import CaseProblem, Stage, Status


def _measure(self, case, progress):
    asked = json.loads(os.environ.get("INSTANT", "{}")).get(case.model.name, {})
    time.sleep(asked.get("seconds", 0))
    if "status" in asked:
        raise CaseProblem(Status(asked["status"]), Stage.FORWARD, "It was to end so.")


CaseRunner._measure = _measure
Sides.start = lambda self: None
