"""What stands around pytest-html's table: the summary above it, controls, details and script.

The details of all cases are packed (gzip) into one element, and the script puts them where they
are looked at: a page of hundreds of cases stays small and quick.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Collection, Sequence

from markupsafe import Markup

from harness.devices.spec import EMULATED_MEANS
from harness.records import consistency
from harness.records.lines import CaseRecord, RunRecord
from harness.report.html import fragments, glossary, words
from harness.report.html.assets import SCRIPT, STYLESHEET
from harness.report.html.figures import Drawing
from harness.report.html.words import Language
from harness.report.tables import cells, expected, failures, per_case, provenance, trend
from harness.report.tables.cells import Table
from harness.upgrade.history import HistoryEntry

# Cases with their plots: drawing takes time, and hundreds of plots are not looked at.
_PLOTTED = 40
_ALL_PLOTTED = 12  # of so few cases, those that passed have plots as well
_FIRST = 2  # causes of failure that open with a case
_LISTED = 200  # cases of one cause that are named

_SUMMARY = fragments.ENVIRONMENT.from_string(
    """\
<p class="harness-top harness-{{ 'pass' if good else 'fail' }}">{{ word }} - {{ top_line }}</p>
{% if emulated %}<p class="harness-banner">EMULATED: the NPU is the emulated one, computed in this
host's memory. The results check the way of the model and the harness; they are no evidence about
NPU hardware.</p>{% endif %}
{% if groups %}
<div class="harness-failures">
{% for group in groups %}
<details class="harness-details"><summary>{{ group.line }}</summary>
<ul>{% for case in group.cases[:most] %}
<li><a href="#harness-results" data-case="{{ case.case_id }}">{{ case.case_id }}</a>
<span>{{ group.detail(case) }}</span></li>{% endfor %}</ul>
{% if group.cases|length > most %}<p>{{ group.cases|length - most }} more: search the results for
the operator.</p>{% endif %}
</details>
{% endfor %}
</div>
{% endif %}
{% if missing %}<p>Cases without a record: {{ missing|join(', ') }}</p>{% endif %}
{% if other_rules %}<p>{{ other_rules }}</p>{% endif %}
{% if expected_line %}
<details class="harness-details"{{ ' open' if sentences }}><summary>{{ expected_line }}</summary>
{% for table in expected_tables %}{{ table }}{% endfor %}
{% if sentences %}<ul>{% for text in sentences %}<li>{{ text }}</li>{% endfor %}</ul>{% endif %}
</details>
{% endif %}
{% for title, body in cases %}
<h2 class="harness-first">{{ title }}</h2>
{{ body }}
{% endfor %}
{% if plot %}<h2>Error against what is allowed</h2>{{ plot }}{% endif %}
{% if device %}<p class="harness-device">Device: {{ device }}</p>{% endif %}
{% if sides %}
<details class="harness-details"><summary>Devices and settings</summary>{{ sides }}</details>
{% endif %}
"""
)

_CONTROLS = fragments.ENVIRONMENT.from_string(
    """\
{% for title, place in apart %}
<details class="harness-details"><summary>{{ title }}</summary>{{ place }}</details>
{% endfor %}
<div class="harness-controls" role="search">
<label>Search <input type="search" id="harness-search"
placeholder="case, model, status, operator"></label>
<label>Status <select id="harness-status"><option value="">all</option></select></label>
<span id="harness-count" role="status"></span>
</div>
<p id="harness-none" hidden>No case fits the search and the status.</p>
"""
)

_SCRIPTS = fragments.ENVIRONMENT.from_string(
    """\
<details class="harness-details harness-glossary"><summary>What the numbers mean</summary>
{{ meanings }}</details>
<script type="text/plain" id="harness-details">{{ packed }}</script>
{{ words }}
<script>{{ script }}</script>
"""
)


_ALONE = fragments.ENVIRONMENT.from_string(
    """\
<div class="harness-alone"><style>@scope (.harness-alone) {
{{ style }}
}</style>
{% if emulated %}<p class="harness-banner">{{ emulated }}</p>{% endif %}
<h3>{{ title }}</h3>
{{ body }}
</div>
"""
)


def render_summary(
    run: RunRecord | None, cases: Sequence[CaseRecord], missing: Sequence[str] = ()
) -> str:
    """Render the head of the report: verdict, EMULATED banner, what failed and why, one case.

    The case is the worst of the first cause of failure (and of the second), or the first of all.
    """
    device = f"{run.device} ({run.device_reason})" if run else ""
    bad = [case for case in cases if not expected.is_fine(case)]
    good = bool(cases) and not missing and not bad
    groups = failures.grouped(bad)
    shown = [group.cases[0] for group in groups[:_FIRST]] or cases[:1]
    return _SUMMARY.render(
        emulated=any(case.emulated for case in cases) or bool(run and run.emulated),
        good=good,
        word="PASSED" if good else "NOT PASSED" if cases or missing else "NOTHING RAN",
        top_line=per_case.top_line(cases, missing),
        device=device,
        other_rules=consistency.other_rules(cases),
        sides=fragments.render_table(provenance.sides(cases)) if cases else "",
        groups=groups,
        most=_LISTED,
        sentences=expected.sentences(shown),
        expected_line=expected.line(cases),
        expected_tables=[fragments.render_table(table) for table in expected.all_tables(cases)],
        plot=_budget_plot(cases),
        missing=missing,
        cases=[
            (
                cells.label(case, case.case_id),
                Markup(fragments.render_case(case, full=False)),
            )
            for case in shown
        ],
    )


def render_alone(case: CaseRecord) -> str:
    """Render one case for a notebook, whose own style the case's must not reach."""
    style = STYLESHEET.read_text(encoding="utf-8")
    style = style.replace(":root {", ":scope {").replace("\nbody {", "\n:scope {")
    return _ALONE.render(
        style=Markup(style),
        emulated=EMULATED_MEANS * case.emulated,
        title=cells.label(case, case.case_id),
        body=Markup(fragments.render_case(case, full=False)),
    )


def render_trend(found: Sequence[HistoryEntry]) -> str:
    """Render the trend over versions; "" for a single run."""
    table = trend.trend(found)
    if table is None:
        return ""
    from harness.report.html import plots  # brings matplotlib in

    plot = plots.trend(found)
    return Markup(
        '<details class="harness-details"><summary>Trend over versions</summary>{}{}</details>'
    ).format(plot or "", fragments.render_table(table))


def render_controls(cases: Sequence[CaseRecord], with_row: Collection[str]) -> str:
    """Render search and filter, and places for cases without a row in pytest-html's table.

    `with_row`: ids of the cases that have one; those that an earlier run settled, or whose
    process died under pytest-xdist, have none.
    """
    apart = [case for case in cases if case.case_id not in with_row]
    return _CONTROLS.render(
        apart=[
            (
                f"Without a row below: {cells.label(case, case.case_id)}, {case.status.value}",
                Markup(fragments.place_of(case.case_id)),
            )
            for case in apart
        ]
    )


def render_scripts(cases: Sequence[CaseRecord], language: Language = "en") -> str:
    """Render the glossary, the packed details of all cases, and the script of the page.

    `language`: what the script puts the page into.
    """
    plotted = _plotted(cases)
    pictures: dict[str, int] = {}  # each once: cases share their images

    def place(jpeg: str) -> Markup:
        return Markup('data-picture="{}"').format(pictures.setdefault(jpeg, len(pictures)))

    explanations: dict[str, int] = {}  # each once: every table of a case repeats them

    def explained(text: str) -> Markup:
        return Markup(" data-meaning={}").format(explanations.setdefault(text, len(explanations)))

    bodies = {
        case.case_id: fragments.render_case(
            case, plots=case.case_id in plotted, source=place, explained=explained
        )
        for case in cases
    }
    document = {"cases": bodies, "pictures": list(pictures), "meanings": list(explanations)}
    packed = gzip.compress(json.dumps(document).encode(), mtime=0)
    meanings = Table("Numbers of this report", ("number", "meaning"), tuple(glossary.all_items()))
    return _SCRIPTS.render(
        meanings=fragments.render_table(meanings),
        words=words.element(language, cases),
        packed=base64.b64encode(packed).decode("ascii"),
        script=Markup(SCRIPT.read_text(encoding="utf-8")),
    )


def _plotted(cases: Sequence[CaseRecord]) -> set[str]:
    """Ids of the cases with plots: those that are not as they should be, and all where few."""
    bad = [case.case_id for case in cases if not expected.is_fine(case)]
    if len(cases) <= _ALL_PLOTTED:
        return {case.case_id for case in cases}
    return set(bad[:_PLOTTED])


def _budget_plot(cases: Sequence[CaseRecord]) -> Drawing | None:
    if sum(bool(case.budgets) for case in cases) < 2:
        return None  # the case's own plot says it
    from harness.report.html import plots  # brings matplotlib in

    return plots.budgets(cases)
