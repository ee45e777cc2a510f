"""Who is to be told of what went wrong, what to do next, and the report for them, filled in.

The address is the likeliest one and no more: an operator that is missing or refused was decided in
torch_npu's operator library (op-plugin), wrong numbers come from a kernel of CANN, and a model that
does not run on the CPU itself is a matter of timm or of whoever made the weights.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from harness.judgement.operator_rows import OperatorRow
from harness.records.lines import CaseRecord
from harness.report.markdown import Verbatim, code, escaped
from harness.report.port.content import Port
from harness.report.port.texts import Texts
from harness.report.tables.cells import EMULATED
from harness.system import shown
from harness.system.status import Status, standing

ADDRESSES = {
    "op_plugin": "https://gitcode.com/Ascend/op-plugin/issues",
    "cann": "https://gitcode.com/cann/ops-nn/issues",
    "timm": "https://github.com/huggingface/pytorch-image-models/issues",
}
FOLDER = "bug-report"
_LOG_LINES = 30
_OWNERS = {
    Status.FAIL_UNSUPPORTED: "op_plugin",
    Status.FAIL_FALLBACK: "op_plugin",
    Status.FAIL_SHAPE: "op_plugin",
    Status.FAIL_ACCURACY: "cann",
    Status.FAIL_NAN: "cann",
    Status.FLAKY: "cann",
    Status.ERROR_DEVICE: "cann",
    Status.ERROR_CRASH: "cann",
    Status.ERROR_TIMEOUT: "cann",
    Status.FAIL_REFERENCE: "timm",
}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The case that it is about, whom to tell, and the worst operator where one was found.

    `owner`: a key of `ADDRESSES`; `script`: the operator's reproducer, relative to the records.
    """

    case: CaseRecord
    owner: str
    culprit: OperatorRow | None
    script: str

    @property
    def next_step(self) -> str:
        """Key of the sentence that says what to do next."""
        if self.owner == "cann" and self.culprit is None:
            errors = self.case.status.is_error
            return "tell.next_error" if errors else "tell.next_localize"
        return f"tell.next_{self.owner}"


def diagnosis(found: Port) -> Diagnosis | None:
    """What to tell whom; None where nothing went wrong, or only with the host or the inputs."""
    wrong = [case for case in found.cases if case.status in _OWNERS]
    if not wrong:
        return None
    # A culprit is worth more than a worse status without one.
    named = [case for case in wrong if _culprit(case) is not None] or wrong
    case = named[0]
    for other in named[1:]:
        if standing(case.status, other.status) is not case.status:
            case = other
    culprit = _culprit(case)
    scripts = case.localization.reproducers if case.localization is not None else ()
    return Diagnosis(case, _OWNERS[case.status], culprit, scripts[0] if scripts else "")


def section(told: Diagnosis, t: Texts) -> list[str]:
    """The sentences of the report's section."""
    lines: list[str] = []
    row = told.culprit
    if row is not None:
        lines.append(
            t(
                "tell.culprit",
                operator=code(row.operator),
                module=code(row.module),
                shapes=" ".join(row.shapes),
            )
        )
        lines.append(
            t("tell.source", source=code(row.source)) if row.source else t("tell.no_source")
        )
    lines.append(t("tell.owner", owner=t(f"owner.{told.owner}"), address=ADDRESSES[told.owner]))
    lines.append(t(told.next_step))
    lines.append(t("tell.file", file=code(f"{FOLDER}/report_{t.language}.md")))
    return lines


def bug_report(found: Port, told: Diagnosis, t: Texts) -> str:
    """The report to be filed, as Markdown; what only its author can know is left to them."""
    case, row = told.case, told.culprit
    recorded = found.run.run.environment if found.run.run is not None else {}
    candidate = case.candidate
    card = candidate.device.name if candidate is not None else t("missing.not_recorded")
    cann = candidate.device.details.get("cann") if candidate is not None else None
    name = row.operator if row is not None else case.status.value
    lines = [f"# {t('bug.title', what=name, model=found.name)}", ""]
    if case.emulated:
        lines += [t("bug.emulated"), ""]
    lines += [f"## {t('bug.environment')}", ""]
    facts = [(key, recorded.get(key, "")) for key in ("torch", "torch_npu", "timm", "python")]
    facts += [("CANN", cann or ""), (t("environment.driver"), recorded.get("driver", ""))]
    facts += [("NPU", f"{card} {EMULATED}" if case.emulated else card)]
    facts += [(t("environment.platform"), recorded.get("platform", ""))]
    unknown = t("missing.not_recorded")
    lines += [f"- {escaped(key)}: {escaped(value or unknown)}" for key, value in facts]
    lines += ["", f"## {t('bug.what')}", ""]
    lines += [escaped(t.cut(t.said(case.reason_messages, case.reason))), ""]
    if row is not None:
        lines += [_numbers(row, t), ""]
    lines += [f"## {t('bug.reproduce')}", ""]
    if told.script:
        script = Path(told.script).name
        command = f"python {script}"
        if case.emulated:
            command = f"python -m harness emulate {script} -- --device npu:0"
        lines += [t("bug.script", script=code(script)), "", f"```bash\n{command}\n```", ""]
    else:
        lines += [t("bug.no_script", case=code(case.case_id)), ""]
    lines += [f"## {t('bug.expected')}", "", t("bug.expected_text"), ""]
    if tail := case.log_tail.strip().splitlines()[-_LOG_LINES:]:
        text = shown.lines("\n".join(tail)).replace("```", "'''")
        lines += [f"## {t('bug.log')}", "", f"```\n{text}\n```", ""]
    return "\n".join(lines).rstrip() + "\n"


def write(found: Port, told: Diagnosis, t: Texts, directory: Path, records: Path) -> None:
    """Write the report into `directory`, beside the reproducer and its tensors from `records`."""
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    text = bug_report(found, told, t)
    (folder / f"report_{t.language}.md").write_text(text, encoding="utf-8")
    if not told.script:
        return
    script = records / told.script
    for file in (script, script.with_suffix(".safetensors")):
        if file.is_file():  # else the report names it, and the records say where it was
            shutil.copyfile(file, folder / file.name)


def _culprit(case: CaseRecord) -> OperatorRow | None:
    if case.localization is not None and case.localization.culprits:
        return case.localization.culprits[0]
    if case.operators is not None and case.operators.culprits:
        return case.operators.worst[0]
    return None


def _numbers(row: OperatorRow, t: Texts) -> Verbatim:
    return t(
        "bug.numbers",
        operator=code(row.operator),
        module=code(row.module),
        source=code(row.source) if row.source else t("missing.not_recorded"),
        shapes=" ".join(row.shapes),
        dtype=row.dtype,
        format=row.memory_format,
        ratio=f"{row.ratio:.3g}",
        slice_ratio=f"{row.worst_slice_ratio:.3g}",
        nonfinite=row.nonfinite,
        unstable=row.unstable,
    )
