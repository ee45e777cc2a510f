"""The images of a case: small pictures with what both sides call them."""

from __future__ import annotations

from collections.abc import Callable

import jinja2
from markupsafe import Markup

from harness.records.lines import CaseRecord
from harness.records.views import Guess, ImageView
from harness.report.tables import cells

# Where a picture comes from: the attribute that names it.
Source = Callable[[str], Markup]

_IMAGES = """\
<div class="harness-images">
{% for view, label, differs, rows in views %}
<figure class="harness-image{{ ' harness-flip' if differs }}">
{% if view.jpeg %}<img {{ source(view.jpeg) }} width="64" height="64" alt="image {{ view.image }}">
{% endif %}
<figcaption>{{ label }}{% if differs %}<strong> Top-1 differs</strong>{% endif %}
</figcaption>
{% if rows %}
<table><thead><tr><th scope="col">Top-5</th><th scope="col">CPU</th>
<th scope="col">{{ word }}</th></tr></thead><tbody>
{% for name, cpu, device in rows %}
<tr><td>{{ name }}</td><td>{{ cpu }}</td><td>{{ device }}</td></tr>
{% endfor %}
</tbody></table>
{% endif %}
</figure>
{% endfor %}
</div>
{% if random %}<p class="harness-note">The weights are random: what the classes are called means
nothing here.</p>{% endif %}
"""


def inline(jpeg: str) -> Markup:
    """The picture stands in the page where it is shown."""
    return Markup('src="data:image/jpeg;base64,{}"').format(jpeg)


def render(case: CaseRecord, engine: jinja2.Environment, source: Source = inline) -> Markup:
    """Render the images that the record shows; "" for a record without any."""
    if not case.views:
        return Markup("")
    named = any(view.cpu for view in case.views)
    return Markup(
        engine.from_string(_IMAGES).render(
            source=source,
            word=cells.device_word(case),
            random=named and case.case.model.kind == "architecture",
            views=[(view, _label(case, view), _differs(view), _rows(view)) for view in case.views],
        )
    )


def _label(case: CaseRecord, view: ImageView) -> str:
    known = view.image < len(case.labels)
    return case.labels[view.image] if known else f"image {view.image}"


def _differs(view: ImageView) -> bool:
    return [guess.index for guess in view.cpu[:1]] != [guess.index for guess in view.device[:1]]


def _rows(view: ImageView) -> list[tuple[str, str, str]]:
    """The classes that either side finds most probable, with both sides' probabilities."""
    sides = [{guess.index: guess for guess in side} for side in (view.cpu, view.device)]
    classes = sides[0] | sides[1]
    cpu, device = ([_percent(side.get(index)) for index in classes] for side in sides)
    names = [guess.name for guess in classes.values()]
    return list(zip(names, cpu, device, strict=True))


def _percent(guess: Guess | None) -> str:
    return "not in its five" if guess is None else f"{100 * guess.probability:.2f} %"
