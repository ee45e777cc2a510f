"""The tables of docs/detection.md: which architectures, and where they are written."""

import pytest

from harness.cases import architectures

pytest.importorskip("psutil", reason="comes with the extra `bench`")
from benchmarks import detection


def test_the_smallest_of_every_family_goes_first():
    names = detection.chosen()
    _, table = architectures.table()
    families = {table[name].family for name in names}
    assert len(names) == len(set(names)) == 112 and len(families) >= 70
    small = [row for row in table.values() if row.macs and row.macs <= 12 * 10**9]
    assert families == {row.family for row in small}
    for family in families:
        least = min(row.macs for row in small if row.family == family)
        assert any(table[name].family == family and table[name].macs == least for name in names)


def test_only_what_stands_between_the_marks_is_replaced():
    document = (
        "a\n<!-- table one -->\nold\n<!-- end -->\nb\n<!-- table two -->\nold\n<!-- end -->\n"
    )
    filled = detection.fill(document, {"one": "new"})
    assert filled == document.replace("old", "\nnew\n", 1)
    assert detection.fill(filled, {"one": "new"}) == filled
    with pytest.raises(KeyError, match="three"):
        detection.fill(document, {"three": ""})


def test_the_document_has_a_place_for_every_table():
    text = detection.DOCUMENT.read_text(encoding="utf-8")
    assert detection._MARKED.findall(text) and detection.fill(text, {}) == text
    assert {name for _, name, _ in detection._MARKED.findall(text)} == set(detection.TABLES)
