"""Folders of two runs, made without a device."""

import json
from pathlib import Path

from harness.qualification import catalogue, results
from harness.qualification.results import Results
from harness.qualification.signatures import call_id
from harness.system.status import Status
from tests.makers.operators import RELU, calls, outcome, run, softmax

MODELS = {"a": [softmax(197), softmax(257), RELU], "b": [softmax(49), RELU]}
TEXTS = sorted({text for group in MODELS.values() for text in group})


def qualified(
    folder: Path, bad=(), changed=(), *, missing=(), status=Status.FAIL_ACCURACY, **of_run
) -> Path:
    """Results of all calls of MODELS in a folder, with the catalogue beside them."""
    outcomes = {
        call_id(text): outcome(
            call_id(text),
            status if text in bad else Status.PASS,
            text=text,
            bits="bb" if text in changed or text in bad else "aa",
            reason="7 times its budget" if text in bad else "",
        )
        for text in TEXTS
        if text not in missing
    }
    made = Results(run(**{"models": tuple(MODELS), "calls": len(TEXTS), **of_run}), outcomes, True)
    folder.mkdir(parents=True, exist_ok=True)
    results.write(made, folder / results.FILE, 0)
    catalogue.write(calls(MODELS), folder / catalogue.TRACED)
    return folder


def answered(folder: Path, **answers: str) -> Path:
    """Answers of `support` by model."""
    folder.mkdir(parents=True, exist_ok=True)
    objection = {
        "call": "aten::relu.default(int16[2])", "module": "act", "operator": "aclnnRelu",
        "rule": "self: int16", "source": "s", "remedy": "cast it",
    }  # fmt: skip
    found = [
        {
            "answer": answer, "name": name, "dtype": "float32", "calls": 1, "operators": {},
            "objections": [] if answer == "accepted" else [{"answer": answer, **objection}],
        }
        for name, answer in answers.items()
    ]  # fmt: skip
    (folder / "support.json").write_text(json.dumps(found))
    return folder
