"""HTML fragments of cases and tables; every text is escaped by the template engine."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence

import jinja2
from markupsafe import Markup, escape

from harness.records.lines import CaseRecord
from harness.report.html import glossary, images, plots, share_plots, speed_plots
from harness.report.html.figures import Drawing
from harness.report.tables import (
    cells,
    detection,
    localization,
    per_case,
    shares,
    throughput,
    two_runs,
)
from harness.report.tables.cells import Table
from harness.system import shown
from harness.upgrade.compare import RunComparison


def _plain(value: object) -> object:
    """Text through the filter of all foreign text; markup, and what is no text, as it is."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return shown.lines(str(value)) if plain else value


ENVIRONMENT = jinja2.Environment(
    autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_plain
)

_TABLE = ENVIRONMENT.from_string(
    """\
<div class="harness-scroll"><table class="harness-table"><caption>{{ table.title }}</caption>
<thead><tr>
{% for cell in table.header %}<th scope="col"{{ meaning(cell) }}>{{ cell }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>{% for cell in row %}
<td{% if loop.first and row|length == 2 %}{{ meaning(cell) }}{% endif %}>{{ cell }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div>
"""
)

_CASE = ENVIRONMENT.from_string(
    """\
{% macro long(text) %}
{% if text|length > 800 %}<details><summary>{{ text[:400] }} ...</summary>{{ text }}</details>
{% else %}{{ text }}{% endif %}
{% endmacro %}
<section class="harness-case harness-{{ case.status.value }}">
<div class="harness-conclusion">{{ long(conclusion) }}</div>
{% for line in localization %}<p>{{ line }}</p>{% endfor %}
<div class="harness-tables">{% for table in first %}{{ table }}{% endfor %}</div>
{{ images }}
{% if case.findings|length > 1 %}
<ul>{% for finding in case.findings %}<li>{{ long(finding|string) }}</li>{% endfor %}</ul>
{% endif %}
{% if case.notes %}
<ul>{% for note in case.notes %}<li>Note: {{ note }}</li>{% endfor %}</ul>
{% endif %}
{% if detection %}<p>{{ detection }}</p>{% endif %}
{% for line in throughput %}<p>{{ line }}</p>{% endfor %}
{% if depth %}{{ depth }}{% endif %}
{% if shares %}{{ shares }}{% endif %}
{% if panels %}<div class="harness-panels">
{% for panel in panels %}{{ panel }}{% endfor %}</div>{% endif %}
{% if speed %}{{ speed }}{% endif %}
<div class="harness-tables">{% for table in tables %}{{ table }}{% endfor %}</div>
{% if case.log_tail %}<details><summary>Last lines of the process that failed</summary>
<pre tabindex="0">{{ case.log_tail }}</pre></details>{% endif %}
</section>
"""
)

_COMPARISON = ENVIRONMENT.from_string(
    """\
<details class="harness-details" open><summary>{{ line }}</summary>
{% if hits %}<ul>{% for hit in hits %}<li>{{ hit }}</li>{% endfor %}</ul>{% endif %}
{% for table in tables %}{{ table }}{% endfor %}
</details>
"""
)

_CLASS = re.compile(r'class="(col-\w+)"')
# Columns that are added to pytest-html's table: class, title, property, what stands where the
# property is absent.
_COLUMNS = (
    ("status", "Status", "status", "no case"),
    ("ratio", "Budget ratio", "budget_ratio", cells.NOT_MEASURED),
    ("errorrate", "Error rate, %", "error_rate_percent", cells.NOT_MEASURED),
    ("top1", "Top-1", "top1_agreement", cells.NOT_MEASURED),
    ("reason", "Reason", "", ""),
)


def inline(meaning: str) -> Markup:
    """The attribute of a name that says what it means."""
    return Markup(' title="{}"').format(meaning)


def render_table(table: Table, explained: Callable[[str], Markup] = inline) -> Markup:
    """Render one table; what a number is and its formula show on hover.

    `explained`: the attribute for a meaning.
    """

    def meaning(cell: str) -> Markup:
        text = glossary.meaning(cell, table.title)
        return explained(text) if text else Markup("")

    return Markup(_TABLE.render(table=table, meaning=meaning))


def headers(given: Sequence[str]) -> list[str]:
    """Header cells of the results: pytest-html's, which sorts by them, with ours among them.

    Its column of links goes: they stand behind the name of the test.
    """
    ours = [
        Markup('<th class="sortable" tabindex="0" data-column-type="{}"{}>{}</th>').format(
            name, inline(text) if (text := glossary.meaning(title)) else "", title
        )
        for name, title, *_ in _COLUMNS
    ]
    theirs = [cell.replace("<th ", '<th tabindex="0" ') for cell in given if ">Links<" not in cell]
    return [*theirs[:2], *ours, *theirs[2:]]


def row(given: Sequence[str], properties: Mapping[str, object]) -> list[str]:
    """The cells of one result; `properties`: as the plugin attaches them to a test's report.

    pytest-html sorts by the text of a cell, hence the one that is not shown.  It holds every cell
    twice, as text with its marks escaped: attributes that need no quotation marks have none.
    """
    result, name, *more = (
        _CLASS.sub(r"class=\1", cell, count=1) for cell in given if "col-links" not in cell
    )
    if "case" in properties:
        name = Markup("<td class=col-testId>{}</td>").format(properties["case"])
    for links in (cell for cell in given if "<a" in cell and "col-links" in cell):
        name = f"{name.removesuffix('</td>')} {links.partition('>')[2]}"
    ours: list[str] = []
    for column, _, key, absent in _COLUMNS:
        text = str(properties.get(key, absent)) if key else _reason(properties)
        try:
            number = float(text)
            hidden = Markup("<span hidden>{}</span>").format(sortable(number))
            text_cell = hidden + f"{number:.4g}"
        except ValueError:
            text_cell = Markup("{}").format(text)
        ours.append(Markup("<td class=col-{}>{}</td>").format(column, text_cell))
    return [result.replace("<td ", "<td tabindex=0 ", 1), name, *ours, *more]


def sortable(number: float) -> str:
    """A text that sorts as the number does: the exponent leads; what is not above 0 is first."""
    if not math.isfinite(number):
        return str(number)  # letters are behind digits
    mantissa, exponent = f"{max(number, 0.0):.6e}".split("e")
    return f"{int(exponent) + 500}{mantissa}" if number > 0 else "0"


def escaped(values: Mapping[str, object]) -> dict[str, object]:
    """The environment as pytest-html takes it: names as text, values as HTML."""
    return {
        name: escaped({str(escape(k)): v for k, v in value.items()})
        if isinstance(value, Mapping)
        else str(escape(value))
        for name, value in values.items()
    }


def place_of(case_id: str) -> str:
    """Where the script of the page puts a case's details as soon as they are seen.

    A plain string: pytest-xdist takes no other from its workers.
    """
    return str(Markup('<div class=harness-lazy data-case="{}"></div>').format(case_id))


def render_case(
    case: CaseRecord,
    *,
    full: bool = True,
    plots: bool = True,
    source: images.Source = images.inline,
    explained: Callable[[str], Markup] = inline,
) -> str:
    """Render one case: conclusion, the protocol's tables, images, plots; `full`: all tables.

    `source`: where its pictures come from; `explained`: as of `render_table`.
    """
    table = functools.partial(render_table, explained=explained)
    worst, budget = localization.worst(case), per_case.budget(case)
    # Without classes the protocol has no table: what the raw outputs show stands in its place.
    raw = per_case.outputs(case) if case.gate is None else None
    first = list(
        filter(None, [worst, *per_case.documented(case), raw, budget, shares.greatest(case)])
    )
    every = [*per_case.everything(case), *filter(None, [throughput.memory(case)])]
    drawn = _drawn(case, "full" if full else "brief") if plots else _Plots()
    return _CASE.render(
        case=case,
        conclusion=per_case.conclusion(case),
        detection=detection.line(case),
        localization=[*localization.lines(case), *shares.lines(case)],
        throughput=throughput.lines(case),
        depth=drawn.depth,
        panels=drawn.panels,
        speed=drawn.speed,
        shares=drawn.shares,
        images=images.render(case, ENVIRONMENT, source),
        first=map(table, first),
        tables=[
            *(table(one) for one in every if full and one not in first),
            *map(table, throughput.tables(case)),
        ],
    )


def render_comparison(comparison: RunComparison) -> str:
    """Render a comparison with an older run."""
    return _COMPARISON.render(
        line=two_runs.line(comparison),
        hits=[*filter(None, [two_runs.other_rules(comparison)]), *comparison.hits],
        tables=[render_table(table) for table in two_runs.tables(comparison)],
    )


def _reason(properties: Mapping[str, object]) -> str:
    """The culprit, else why the case did not pass; nothing for one that did."""
    culprit = str(properties.get("culprit", "none"))
    return str(properties.get("reason", "")) if culprit == "none" else f"Culprit {culprit}"


@dataclasses.dataclass(frozen=True)
class _Plots:
    depth: Drawing | None = None
    panels: Sequence[Drawing] = ()
    speed: Drawing | None = None
    shares: Drawing | None = None


def _drawn(case: CaseRecord, copy: str) -> _Plots:
    found = case.localization
    traced = found is not None and any(row.reference_rms > 0 for row in found.rows)
    if not (traced or case.outputs or case.throughput):
        return _Plots()
    name = cells.label(case, case.case_id)
    return _Plots(
        plots.error_over_depth(found, name, copy=copy) if found is not None and traced else None,
        plots.agreement(case, copy=copy),
        speed_plots.of_case(case, copy=copy),
        share_plots.blocks(case, copy=copy),
    )
