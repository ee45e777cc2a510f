"""The port report: the Markdown document that a port publishes, in English or Chinese.

One template serves both languages; data/port.toml holds every text twice.  The documented tables
keep the documented columns and rows; what else users ask for stands in tables of its own.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import jinja2

from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT
from harness.records import results_file
from harness.report import markdown, text
from harness.report.markdown import Verbatim, escaped
from harness.report.port import card, content, diagnosis, sample, score, sections, setup
from harness.report.port.content import Draft, Port
from harness.report.port.texts import LANGUAGES, Language, Texts, as_text
from harness.report.tables import cells
from harness.report.tables.cells import EMULATED, Table
from harness.system import environment, shown
from harness.system.status import Status, UsageProblem

_TEMPLATE = Path(__file__).with_name("port.md.j2")


def render(found: Port, language: Language) -> str:
    """The Markdown document."""
    t = Texts(language)
    engine = jinja2.Environment(  # noqa: S701 - Markdown, which `finalize` escapes
        # Whatever is not meant as Markdown is escaped, wherever the template puts it.
        finalize=lambda value: escaped(as_text(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    mark = _mark(found, t)
    template = engine.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    sheet, notes = score.table(found, t)
    told = diagnosis.diagnosis(found)
    rendered = template.render(
        t=t,
        port=found,
        front_matter=Verbatim(card.front_matter(found, t)),
        sheet=sheet,
        sheet_notes=notes,
        sample=_sample(found, t),
        tell=diagnosis.section(told, t) if told is not None else [],
        bug=told is not None,
        table=lambda table: _table(table, mark, t),
        code=_code,
        verdict=_verdict(found, t),
        drafts=[_draft(found, draft, t) for draft in found.drafts],
        limit=f"{ERROR_RATE_LIMIT_PERCENT:.1f}",
        conclusion=_conclusion(found, t),
        **setup.sections(found, t),
        **sections.sections(found, t),
    )
    return environment.redacted(re.sub(r"\n{3,}", "\n\n", rendered).strip() + "\n")


def write(found: Port, language: Language, directory: Path, records: Path) -> Path:
    """Write all of the folder in a language; returns the document.

    `records`: the folder of the run's records, where reproducers lie.  Raises UsageProblem when the
    directory cannot be written.
    """
    document = directory / f"README_{language}.md"
    try:
        (directory / "results").mkdir(parents=True, exist_ok=True)
        (directory / "logs").mkdir(exist_ok=True)
        results = directory / "results"
        for name, made in (
            ("accuracy", content.accuracy_document(found)),
            ("performance", content.performance_document(found)),
            ("score", score.document(found)),
        ):
            content.write_json(content.public(made), results / f"{name}.json")
        results_file.write(content.public_run(found.of_model()), results / "records.jsonl")
        (directory / "logs" / "run.log").write_text(_log(found), encoding="utf-8")
        write_script(found, directory)
        runs = [ran.log for ran in (found.sample.cpu, found.sample.device) if ran is not None]
        if runs:
            text = "\n\n".join(runs) + "\n"
            (directory / "logs" / "inference.log").write_text(text, encoding="utf-8")
        told = diagnosis.diagnosis(found)
        if told is not None:
            diagnosis.write(found, told, Texts(language), directory, records)
        document.write_text(render(found, language), encoding="utf-8")
    except OSError as error:
        raise UsageProblem(
            f"Cannot write the report to {directory} ({error.strerror}): give --output DIR."
        ) from error
    return document


def claim(directory: Path) -> None:
    """Make a folder ready for a report: what an older one said of itself goes.

    Raises UsageProblem where a file of somebody else's would be overwritten.
    """
    written = ("README.md", *(f"README_{language}.md" for language in LANGUAGES), "inference.py")
    found = next((name for name in written if os.path.lexists(directory / name)), None)
    if found is None:
        return
    if not (directory / "results" / "score.json").is_file():
        raise UsageProblem(
            f"{directory} holds a {found} that is no part of a port report: give another --output "
            "DIR, or move it away."
        )
    (directory / "logs" / "inference.log").unlink(missing_ok=True)
    shutil.rmtree(directory / diagnosis.FOLDER, ignore_errors=True)


def write_script(found: Port, directory: Path) -> Path:
    """Write the port's inference.py.  Raises UsageProblem as `write`."""
    path = directory / "inference.py"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(sample.script(found.name), encoding="utf-8")
    except OSError as error:
        raise UsageProblem(
            f"Cannot write the report to {directory} ({error.strerror}): give --output DIR."
        ) from error
    return path


def line(found: Port) -> str:
    """What the report is, in one line of English."""
    reasons = [_draft(found, draft, Texts("en")) for draft in found.drafts]
    status = found.status.value if found.status is not None else "none"
    return (
        f"Result: {status}. DRAFT, not to be published: {' '.join(reasons)}"
        if reasons
        else f"Result: {status}. The evidence is complete: the report may be published."
    )


def _log(found: Port) -> str:
    run = found.run.run
    head = []
    if run is not None:
        head = [f"run {run.run_id} of {run.started:%Y-%m-%d %H:%M:%S} UTC"]
        head.append(f"device: {run.device} ({run.device_reason}){f' {EMULATED}' * run.emulated}")
        head += [f"{name}: {value}" for name, value in run.environment.items()]
    blocks = ["\n".join(map(shown.line, [line(found), *head]))]
    blocks.append(text.render_run(found.cases, found.missing, full=True))
    for case in found.cases:
        if case.log_tail:
            title = shown.line(f"Last lines of the process that failed, {case.case_id}:")
            blocks.append(f"{title}\n{shown.lines(case.log_tail)}")
    return environment.redacted("\n\n".join(blocks) + "\n")


def _verdict(found: Port, t: Texts) -> Verbatim:
    status = found.status
    if status is None:
        return t("verdict_none")
    passed = status is Status.PASS and not found.missing
    word = t(f"word.{'' if passed else 'not_'}passed")
    if mark := _mark(found, t):
        word = t("verdict_marked", word=word, mark=mark)
    count = len(found.cases) + len(found.missing)
    if passed:
        return t("verdict_passed", word=word, count=count)
    return t("verdict", word=word, count=count, status=status.value)


def _draft(found: Port, draft: Draft, t: Texts) -> Verbatim:
    kinds = t.listed(sorted(found.device_kinds)) or "-"
    return t(f"draft.{draft.value}", device=kinds)


def _mark(found: Port, t: Texts) -> str:
    if not found.drafts:
        return ""
    return t.listed([t("draft.mark"), *([EMULATED] if found.emulated else [])])


def _table(table: Table, mark: str, t: Texts) -> Verbatim:
    caption = table.title or mark
    if table.title and mark:
        caption = t("captioned", title=table.title, mark=mark)
    lines = [f"**{escaped(caption)}**", ""] if caption else []
    return Verbatim("\n".join([*lines, *markdown.rows(table)]))


def _code(language: str, content: str) -> Verbatim:
    """A fenced block, with a fence that its content does not hold."""
    runs = re.findall(r"`+", content)
    fence = "`" * max(3, *(len(run) + 1 for run in runs)) if runs else "```"
    return Verbatim(f"{fence}{language}\n{content}\n{fence}")


def _conclusion(found: Port, t: Texts) -> list[Verbatim]:
    main = found.main
    lines = [t("conclusion.none")] if main is None else []
    if main is not None:
        gate = main.gate
        if main.status is not Status.PASS:
            lines.append(t(f"status.{main.status.value}"))
            lines.append(t("conclusion.reason", reason=t.cut(sections.reason(main, t))))
            if gate is not None and gate.passed:
                lines.append(t("conclusion.gate_alone"))
        elif gate is None:
            lines.append(t("conclusion.pass_no_gate"))
        else:
            # "Far below" as published; a tenth of the threshold is where that word begins here.
            far = gate.error_rate_percent < ERROR_RATE_LIMIT_PERCENT / 10
            agree = gate.top1_matches == gate.images
            lines.append(
                t(
                    "conclusion.pass" if agree else "conclusion.pass_flips",
                    rate=cells.fixed(gate.error_rate_percent, 4),
                    far=t("conclusion.far") if far else "",
                    limit=f"{ERROR_RATE_LIMIT_PERCENT:g}",
                    matches=gate.top1_matches,
                    images=gate.images,
                )
            )
        failed = sum(case.status is not Status.PASS for case in found.cases)
        key = "conclusion.some_failed" if failed else "conclusion.all_passed"
        lines.append(t(key, failed=failed, count=len(found.cases)))
    if found.missing:
        lines.append(t("conclusion.missing", cases=t.listed(found.missing)))
    if mark := _mark(found, t):
        lines = [Verbatim(f"{line}{t('marked', mark=mark)}") for line in lines]
    lines += [_draft(found, draft, t) for draft in found.drafts]
    return lines


def _sample(found: Port, t: Texts) -> dict[str, Any]:
    """The sample output: a table or a sentence, and what else is said of it."""
    ran = found.sample
    if ran.problem:
        why = t(ran.problem)
        return {"table": None, "lines": [why if ran.problem == "sample.not_asked" else t(
            "sample.none", why=why)], "commands": ""}  # fmt: skip
    device = cells.device_word(found.main) if found.main is not None else "NPU"
    results = ran.results
    assert ran.device is not None
    if results is None:
        why = t("sample.failed", device=device, why=ran.device.why)
        return {"table": None, "lines": [t("sample.none", why=why)], "commands": ""}
    lines: list[str] = [t("sample.ran")]
    lines += [t("sample.emulated")] if ran.emulated else []
    on_cpu = ran.cpu.document["results"] if ran.cpu is not None and ran.cpu.document else [{}]
    own, cpu = results[0], on_cpu[0]
    commands = "\n".join(one.command for one in (ran.cpu, ran.device) if one is not None)
    if "top" not in own:
        shape = " x ".join(map(str, own["shape"]))
        lines.append(t("sample.vector", shape=shape, device=device, own=_norm(own), cpu=_norm(cpu)))
        return {"table": None, "lines": lines, "commands": commands}
    beside = {top["index"]: top["confidence"] for top in cpu.get("top", [])}
    rows = tuple(
        (
            str(rank),
            str(top["index"]),
            top["name"],
            _confidence(top["confidence"]),
            _confidence(beside.get(top["index"])),
        )
        for rank, top in enumerate(own["top"], start=1)
    )
    header = (t("sample.rank"), t("sample.class"), t("sample.name"))
    both = tuple(t("sample.confidence", device=side) for side in (device, "CPU"))
    agree = [row["index"] for row in own["top"]] == [row["index"] for row in cpu.get("top", [])]
    lines.append(t("sample.agree" if agree else "sample.differ", device=device))
    table = Table(t("sample.title"), header + both, rows)
    return {"table": table, "lines": lines, "commands": commands}


def _norm(result: dict[str, Any]) -> str:
    value = result.get("l2_norm")
    return "-" if value is None else f"{value:.6g}"


def _confidence(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
