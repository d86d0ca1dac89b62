"""The report without pictures."""

import dataclasses

from tests.unit.reports import sample

from modelyard.reports.markdown import render_markdown
from modelyard.reports.view import RunView


def test_it_begins_with_the_verdict_and_shows_each_stage():
    text = render_markdown(sample.view())
    assert text.startswith("# digits: Version 3 was rolled back\n")
    for title in ("Prepare", "Train", "Evaluate", "Gate", "Compress", "Roll out", "Settle", "Digests and lineage"):
        assert f"\n## {title}\n" in text
    assert "| accuracy at least 0.85 |" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head():
    view = sample.view()
    piped = dataclasses.replace(view, lineage={"a | b": "c | d"})
    tables = [block for block in render_markdown(piped).split("\n\n") if block.startswith("|")]
    assert len(tables) >= 6
    for block in tables:
        widths = {line.replace("\\|", "").count("|") for line in block.splitlines()}
        assert len(widths) == 1, block


def test_a_name_with_markup_is_text():
    text = render_markdown(RunView(model="<b>x</b> [click](http://evil) `code`"))
    assert "<b>" not in text.replace("\\<", "")
    assert "[click]" not in text
