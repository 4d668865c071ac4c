"""The schema for editors says the same as the loader, as far as a schema can."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from monitoring.errors import InvalidFlags
from monitoring.flags.loading import load
from monitoring.flags.model import KEYS

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "docs/schemas/flags.schema.json").read_text())
SHIPPED = (ROOT / "flags.yaml").read_text()
COHORTS = SHIPPED.replace("cohorts: {}", "cohorts:\n  ops: {clients: [a, b-*], stage: live, percent: 0.125}")


def valid(text: str) -> bool:
    return jsonschema.Draft7Validator(SCHEMA).is_valid(YAML(typ="safe", pure=True).load(text))


def test_every_key_is_in_the_schema_and_explained() -> None:
    properties = SCHEMA["properties"]
    for key in KEYS:
        name, _, last = key.partition(".")
        found = properties[name]["properties"][last] if last else properties[name]
        assert "$ref" in found or found["description"]


@pytest.mark.parametrize("text", [SHIPPED, COHORTS])
def test_what_is_good_is_good_for_both(text: str) -> None:
    load(text)
    assert valid(text)


@pytest.mark.parametrize(
    "change",
    [
        ("version: 2", "version: 1"),
        ("kill: false", "kill: no"),
        ("kill: false", "kil: false"),
        ("stage: live", "stage: on"),
        ("  percent: 0", "  percent: 101"),
        ("  percent: 0", "  percent: 0.0001"),
        ("allow: []", "allow: a"),
        ("allow: []", "allow: [a, a]"),
        ("allow: []", "allow: ['a b']"),
        ("ops:", "default:"),
        ("ops:", "Ops:"),
        ("b-*", "b*c"),
        ("stage: live, ", ""),
        ("end: true", "end: false"),
    ],
)
def test_what_is_bad_is_bad_for_both(change: tuple[str, str]) -> None:
    text = COHORTS.replace(*change)
    assert text != COHORTS
    with pytest.raises(InvalidFlags):
        load(text)
    assert not valid(text)
