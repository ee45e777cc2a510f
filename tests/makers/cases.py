"""Cases, entries of case files and fault plans."""

import json

from harness.cases.case import Case, InputSource, ModelSource


def entry(directory, **keys) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    head = ["[[case]]", f'directory = "{directory}"', 'numerics = ["strict"]']
    return "\n".join([*head, *lines, ""])


def plan(tmp_path, **fault) -> str:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"faults": [fault]}))
    return f"--fault-plan={path}"


def case(name: str, kind: str = "architecture", **changes) -> Case:
    return Case(ModelSource(kind, name), InputSource("synthetic"), **changes)
