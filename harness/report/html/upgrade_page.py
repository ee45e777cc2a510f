"""The page of a decision on an upgrade; it needs no other file."""

from __future__ import annotations

from markupsafe import Markup

from harness.devices.spec import EMULATED_MEANS
from harness.qualification import certificate
from harness.report.html import fragments
from harness.report.html.assets import STYLESHEET, UPGRADE_SCRIPT
from harness.report.tables import upgrade
from harness.system.status import ExitCode
from harness.upgrade.decision import Decision

_PAGE = fragments.ENVIRONMENT.from_string(
    """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width">
<style>{{ style }}</style></head><body>
<h1>{{ title }}</h1>
{% if emulated %}<p class="harness-banner">{{ emulated }}</p>{% endif %}
<p class="harness-top harness-{{ 'pass' if good else 'fail' }}">{{ line }}</p>
{{ parts }}
{% for said in contradicted %}<p>{{ said }}</p>{% endfor %}
<div class="harness-controls" role="search">
<label>Search <input type="search" id="harness-search"
placeholder="operator, model, status, call"></label><span id="harness-count" role="status"></span>
</div>
{% for name, tables, open in sections %}
<details class="harness-details"{{ ' open' if open }}><summary>{{ name }}</summary>
{% for table in tables %}{{ table }}{% endfor %}
</details>
{% endfor %}
<p>{{ blind }}</p>
<script>{{ script }}</script>
</body></html>
"""
)


def render(found: Decision) -> str:
    """Render all of it."""
    return _PAGE.render(
        title="Upgrade",
        style=Markup(STYLESHEET.read_text(encoding="utf-8")),
        script=Markup(UPGRADE_SCRIPT.read_text(encoding="utf-8")),
        emulated=EMULATED_MEANS if found.emulated else "",
        good=found.code in (ExitCode.OK, ExitCode.IMPROVED),
        line=found.line,
        parts=fragments.render_table(upgrade.parts(found)),
        contradicted=upgrade.contradictions(found),
        sections=[
            (name, list(map(fragments.render_table, tables)), now)
            for name, tables, now in upgrade.sections(found)
        ],
        blind=f"{certificate.BLIND} {certificate.RATES}" if found.operators else "",
    )
