"""A validator of records that is not ours."""

import json

import jsonschema

from harness.records import schema

VALIDATOR = jsonschema.Draft202012Validator(schema.schema())


def line_of(record) -> dict:
    return json.loads(record.model_dump_json())
