"""JSON Schema of the records, made from the models that write them.

One schema describes one line of a results file: a `run`, a `start`, a `case` or an `end`, told
apart by `type`.  `docs/records.schema.json` is a copy for those who read records without Python.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from harness.records.lines import ADAPTER, SCHEMA_VERSION
from harness.system.files import ROOT

DOCUMENT = ROOT / "docs" / "records.schema.json"


class _Generator(GenerateJsonSchema):
    """Numbers as records write them: what is not finite is a string."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def schema() -> dict[str, Any]:
    """The schema of one line, as JSON Schema 2020-12."""
    made = ADAPTER.json_schema(mode="serialization", schema_generator=_Generator)
    for variant in made["discriminator"]["mapping"].values():
        definition = made["$defs"][variant.rpartition("/")[2]]
        # They have defaults in Python, but a line without them is none.
        definition["required"] = ["schema_version", "type", *definition["required"]]
    whole = {
        "$schema": _Generator.schema_dialect,
        "title": f"A line of results.jsonl, schema version {SCHEMA_VERSION}",
        **made,
    }
    return dict(json.loads(json.dumps(whole)))  # defaults that are tuples are arrays there


def text() -> str:
    """The schema as it stands in the document."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
