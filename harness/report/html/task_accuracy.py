"""The page of a labelled run: verdict, tables, and the images that flip as pictures."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from harness.devices.spec import EMULATED_MEANS
from harness.records.task_accuracy import TaskEnd
from harness.records.task_accuracy_result import KINDS, Flip, Result
from harness.report import task_accuracy as report
from harness.report.html import fragments
from harness.report.html.assets import STYLESHEET
from harness.system import files
from harness.system.status import Status

_PAGE = fragments.ENVIRONMENT.from_string(
    """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{{ style }}
.task-flips { display: flex; flex-wrap: wrap; gap: 1em; padding: 0; list-style: none; }
.task-flips li { width: 14em; overflow-wrap: anywhere; }
.task-flips img { max-width: 100%; height: auto; }
</style></head><body>
<h1>{{ title }}</h1>
{% if emulated %}<p class="harness-banner">{{ emulated }}</p>{% endif %}
<p class="harness-top harness-{{ 'pass' if good else 'fail' }}">{{ conclusion }}</p>
{% for table in tables %}{{ table }}{% endfor %}
{% for line in lines %}<p>{{ line }}</p>{% endfor %}
<h2>Images that flip{{ mark }}</h2>
{% if not kinds %}<p>No image has another Top-1 on the device.</p>{% endif %}
{% for kind, count, flips in kinds %}
<details class="harness-details" open><summary>{{ count }} {{ kind }}{{ mark }}
{%- if count > flips|length %}, {{ flips|length }} of them are shown{% endif %}</summary>
<ul class="task-flips">
{% for flip in flips %}
<li><img alt="{{ flip.image.name }}" src="data:image/jpeg;base64,{{ flip.picture }}"><br>
<b>{{ flip.image.name }}</b><br>
label: {{ name(flip.image.label) }}<br>
CPU: {{ answer(flip.image.cpu, flip.image.cpu_probability) }}<br>
{{ device }}: {{ answer(flip.image.device, flip.image.device_probability) }}</li>
{% endfor %}
</ul></details>
{% endfor %}
</body></html>
"""
)


def render(result: Result, end: TaskEnd | None = None) -> str:
    """Render the page; it needs no other file."""
    run = result.run
    emulated = run.emulated

    def name(label: int) -> str:
        return f"{run.classes[label]} ({label})"

    def answer(top: list[int], probability: float | None) -> str:
        return f"{name(top[0])}, {probability:.3f}" if top else "not finite"

    shown: list[tuple[str, int, list[Flip]]] = [
        (kind, result.flip_counts[kind], result.flips[kind])
        for kind in KINDS
        if result.flip_counts[kind]
    ]
    page: str = _PAGE.render(
        title=f"Task accuracy of {run.model} on {run.dataset}{' [EMULATED]' * emulated}",
        style=Markup(STYLESHEET.read_text(encoding="utf-8")),
        emulated=EMULATED_MEANS if emulated else "",
        mark=" [EMULATED]" * emulated,
        good=result.status in (Status.PASS, Status.SKIP),
        conclusion=report.conclusion(result),
        lines=report.lines(result, end),
        tables=[fragments.render_table(table) for table in report.tables(result)],
        kinds=shown,
        name=name,
        answer=answer,
        device=run.device.spec,
    )
    return page


def write(result: Result, path: Path, end: TaskEnd | None = None) -> None:
    """Write the page in one step.  Raises OSError."""
    with files.replacing(path) as temporary:
        temporary.write_text(render(result, end), encoding="utf-8")
