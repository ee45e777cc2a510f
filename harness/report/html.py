"""HTML fragments for pytest-html; every text is escaped by the template engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jinja2
from markupsafe import Markup, escape

from harness.compare import Comparison
from harness.records import CaseRecord, RunRecord
from harness.report import (
    cells,
    compare,
    detection,
    expected,
    glossary,
    localization,
    provenance,
    tables,
    throughput,
)
from harness.report.cells import Table

_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)

_TABLE = _ENVIRONMENT.from_string(
    """\
<table class="harness-table"><caption>{{ table.title }}</caption>
<thead><tr>
{% for cell in table.header %}<th scope="col"{{ meaning(cell) }}>{{ cell }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>
{% for cell in row %}
<td{% if loop.first %}{{ meaning(cell) }}{% endif %}>{{ cell }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody></table>
"""
)

_CASE = _ENVIRONMENT.from_string(
    """\
<section class="harness-case harness-{{ case.status.value }}">
<p class="harness-conclusion"><strong>{{ conclusion }}</strong></p>
{% if case.findings|length > 1 %}
<ul>{% for finding in case.findings %}<li>{{ finding }}</li>{% endfor %}</ul>
{% endif %}
{% if case.notes %}
<ul>{% for note in case.notes %}<li>Note: {{ note }}</li>{% endfor %}</ul>
{% endif %}
{% if detection %}<p>{{ detection }}</p>{% endif %}
{% for line in localization %}<p>{{ line }}</p>{% endfor %}
{% if plot %}<figure class="harness-figure">{{ plot }}</figure>{% endif %}
{% for line in throughput %}<p>{{ line }}</p>{% endfor %}
{% if speed_plot %}<figure class="harness-figure">{{ speed_plot }}</figure>{% endif %}
{% for table in tables %}{{ table }}{% endfor %}
{% if case.log_tail %}<details><summary>Last lines of the device's process</summary>
<pre>{{ case.log_tail }}</pre></details>{% endif %}
</section>
"""
)

_SUMMARY = _ENVIRONMENT.from_string(
    """\
{% if emulated %}<p class="harness-banner">EMULATED: the device is the CANN emulator on this
host. These results check the harness and the software stack; they are no evidence about NPU
hardware.</p>{% endif %}
<p class="harness-top harness-{{ 'pass' if good else 'fail' }}">{{ top_line }}</p>
{% if device %}<p>Device: {{ device }}</p>{% endif %}
{% if expected_line %}<p>{{ expected_line }}</p>{% endif %}
{% if sentences %}<ul>{% for text in sentences %}<li>{{ text }}</li>{% endfor %}</ul>{% endif %}
{{ sides }}
{{ overview }}
{% for table in expected_tables %}{{ table }}{% endfor %}
{% for title, body in cases %}
<details class="harness-details" open><summary>{{ title }}</summary>{{ body }}</details>
{% endfor %}
"""
)

_COMPARISON = _ENVIRONMENT.from_string(
    """\
<details class="harness-details" open><summary>{{ line }}</summary>
{% if hits %}<ul>{% for hit in hits %}<li>{{ hit }}</li>{% endfor %}</ul>{% endif %}
{% for table in tables %}{{ table }}{% endfor %}
</details>
"""
)

# With more cases than this, the per-case tables stand only in the rows of the results table.
_CASES_IN_SUMMARY = 12


# Columns that are added to pytest-html's table: class, title, property.
_COLUMNS = (
    ("status", "Status", "status"),
    ("ratio", "Budget ratio", "budget_ratio"),
    ("errorrate", "Error rate, %", "error_rate_percent"),
    ("top1", "Top-1", "top1_agreement"),
)


def render_table(table: Table) -> Markup:
    """Render one table; what a number is and its formula show on hover."""
    return Markup(_TABLE.render(table=table, meaning=_meaning))


def column_headers() -> list[str]:
    """Header cells of the columns that are added to pytest-html's table, which sorts by them."""
    return [
        Markup('<th class="sortable" data-column-type="{}"{}>{}</th>').format(
            name, _meaning(title.partition(",")[0].casefold()), title
        )
        for name, title, _ in _COLUMNS
    ]


def columns(properties: Mapping[str, object]) -> list[str]:
    """The cells of one row; `properties`: as the plugin attaches them to a test's report.

    pytest-html sorts by the text of a cell, hence the number with leading zeros that is not shown.
    """
    cells: list[str] = []
    for name, _, key in _COLUMNS:
        text = str(properties.get(key, ""))
        try:
            number = float(text)
            hidden = Markup("<span hidden>{:024.9f}</span>").format(number)
            shown = hidden + f"{number:.4g}"
        except ValueError:
            shown = Markup(escape(text))
        cells.append(Markup('<td class="col-{}">{}</td>').format(name, shown))
    return cells


def _meaning(cell: str) -> Markup:
    """A title attribute for a cell that names a number; nothing for others."""
    text = glossary.MEANING.get(cell)
    return Markup(' title="{}"').format(text) if text else Markup("")


def render_case(case: CaseRecord, *, full: bool = True) -> str:
    """Render one case: conclusion, findings, and all tables or only the documented ones."""
    worst = localization.worst(case)
    brief = [*tables.documented(case), *filter(None, [tables.budget(case), worst])]
    more = filter(None, [worst, throughput.memory(case)])
    chosen = [*tables.everything(case), *more] if full else brief
    return _CASE.render(
        case=case,
        conclusion=tables.conclusion(case),
        detection=detection.line(case),
        localization=localization.lines(case),
        plot=localization.plot(case),
        throughput=throughput.lines(case),
        speed_plot=throughput.plot(case) if full else None,
        tables=[render_table(table) for table in [*chosen, *throughput.tables(case)]],
    )


def render_comparison(comparison: Comparison) -> str:
    """Render a comparison with an older run."""
    return _COMPARISON.render(
        line=compare.line(comparison),
        hits=comparison.hits,
        tables=[render_table(table) for table in compare.tables(comparison)],
    )


def render_summary(
    run: RunRecord | None, cases: Sequence[CaseRecord], missing: Sequence[str] = ()
) -> str:
    """Render the head of the report: verdict, EMULATED banner, overview, documented tables."""
    device = f"{run.device} ({run.device_reason})" if run else ""
    shown = cases if len(cases) <= _CASES_IN_SUMMARY else ()
    return _SUMMARY.render(
        emulated=any(case.emulated for case in cases) or bool(run and run.emulated),
        good=bool(cases) and not missing and all(expected.is_fine(case) for case in cases),
        top_line=tables.top_line(cases, missing),
        device=device,
        sides=render_table(provenance.sides(cases)) if cases else "",
        sentences=expected.sentences(cases),
        expected_line=expected.line(cases),
        expected_tables=[render_table(table) for table in expected.all_tables(cases)],
        overview=render_table(tables.overview(cases)) if cases else "",
        cases=[
            (cells.label(case, case.case_id), Markup(render_case(case, full=False)))
            for case in shown
        ],
    )
