"""Sections of the port report before its figures: model, environment, installation, inference."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from harness.records.leg import LegRecord
from harness.records.lines import CaseRecord
from harness.report.port import card, content
from harness.report.port.content import Port
from harness.report.port.texts import Texts
from harness.report.tables import cells, missing, provenance
from harness.report.tables.cells import EMULATED, Table
from harness.system import environment, messages, releases

# What a port installs, torch first and what belongs to it.
_INSTALLED = ("torch", "torch_npu", "torchvision", "timm", "safetensors")


def sections(found: Port, t: Texts) -> dict[str, Any]:
    """What the template names."""
    main = found.main
    recorded = found.run.run.environment if found.run.run is not None else {}
    install, not_installed = _install(recorded)
    return {
        "description": card.description(found, t),
        "model": _model(found, t),
        "environment": _environment(found, recorded, t),
        "warnings": [t.said(messages.of(one), one) for one in _warnings(recorded, main)],
        "install": install,
        "not_installed": t.listed(not_installed),
        "cann": _cann(main) or t("missing.not_recorded"),
        "x86": "x86" in recorded.get("platform", ""),
        "directory": _directory(found, t),
        "made_from": _made_from(found, recorded, t),
    }


def _model(found: Port, t: Texts) -> Table:
    main = found.main
    none = t("missing.cell", why=t("missing.no_record"))
    not_loaded = t("missing.cell", why=t("missing.not_loaded"))
    not_prepared = t("missing.cell", why=t("missing.not_prepared"))
    rows: list[tuple[str, str]] = [(t("model.name"), found.name)]
    if main is None:
        rows += [(t(f"model.{key}"), none) for key in ("weights", "protocol", "inputs")]
    else:
        rows += [
            (t("model.weights"), weights(found, t) or not_loaded),
            (t("model.weights_sha256"), main.weights_sha256 or not_loaded),
            (t("model.protocol"), _protocol_cell(main, t)),
            (t("model.inputs"), _inputs(main, t) or not_prepared),
            (t("model.inputs_sha256"), main.inputs_sha256 or not_prepared),
        ]
    return Table("", (t("head.item"), t("head.value")), tuple(rows))


def _protocol_cell(main: CaseRecord, t: Texts) -> str:
    differences = content.documented_differences(main)
    if not differences:
        return t("model.documented", case=main.case_id)
    parts = [
        t(
            "model.difference",
            setting=t(f"setting.{name}"),
            own=_setting(name, own, t),
            documented=_setting(name, documented, t),
        )
        for name, documented, own in differences
    ]
    return t("model.differs", case=main.case_id, differences=t.listed(parts))


def _setting(name: str, value: str, t: Texts) -> str:
    return t(f"kind.{value}") if name == "inputs" else value


def weights(found: Port, t: Texts) -> str:
    """Where the weights came from; "" where they were not loaded."""
    main, source = found.main, found.source
    if main is None or source is None or not main.weights:
        return ""
    return t(f"weights.{source.kind}", name=source.name, seed=source.seed)


def _inputs(main: CaseRecord, t: Texts) -> str:
    own = main.case.inputs
    size = missing.image_size(main)
    if not main.inputs or size is None:
        return main.inputs
    key = "made" if own.kind in ("synthetic", "noise") else "read"
    return t(
        f"inputs.{key}",
        count=missing.image_count(main),
        size=size,
        kind=t(f"kind.{own.kind}"),
        seed=own.seed,
    )


def _environment(found: Port, recorded: Mapping[str, str], t: Texts) -> Table:
    main = found.main
    unknown = t("missing.not_recorded")
    rows = [(name, recorded.get(name, unknown)) for name in ("torch", "torch_npu", "timm")]
    rows.append(("CANN", _cann(main) or unknown))
    rows.append(("Python", recorded.get("python", unknown)))
    device = cells.device_word(main) if main is not None else "NPU"
    candidate = main.candidate if main is not None else None
    no_device = t("missing.cell", why=t("missing.no_device"))
    rows.append((device, _cards(candidate, t) if candidate is not None else no_device))
    rows.append((t("environment.driver"), recorded.get("driver", unknown)))
    numerics = candidate.numerics if candidate is not None else {}
    shown = provenance.pairs(provenance.settings(numerics))
    read_back = shown if candidate is not None else no_device
    rows.append((t("environment.numerics", device=device), read_back or unknown))
    rows.append((t("environment.cpu"), _cpu(main, t) or no_device))
    rows.append((t("environment.platform"), recorded.get("platform", unknown)))
    return Table("", (t("head.component"), t("head.version")), tuple(rows))


def _cards(leg: LegRecord, t: Texts) -> str:
    device = leg.device
    name = f"{device.name} {EMULATED}" if device.emulated else device.name
    count = device.details.get("visible_devices")
    if count is None:
        return t("environment.cards_unknown", name=name, spec=device.spec)
    return t("environment.cards", count=count, name=name, spec=device.spec)


def _cpu(main: CaseRecord | None, t: Texts) -> str | None:
    if main is None or main.reference is None:
        return None
    threads = main.reference.timing.threads
    return t("environment.cpu_value", name=main.reference.device.name, threads=threads or "?")


def _cann(main: CaseRecord | None) -> str | None:
    if main is None or main.candidate is None:
        return None
    version = main.candidate.device.details.get("cann")
    return None if version in (None, "unknown") else version


def _warnings(recorded: Mapping[str, str], main: CaseRecord | None) -> list[str]:
    if "torch" not in recorded or "torch_npu" not in recorded:
        return []
    warning = environment.compatibility_warning(
        recorded["torch"], recorded["torch_npu"], _cann(main)
    )
    return [warning] if warning else []


def _install(recorded: Mapping[str, str]) -> tuple[str, list[str]]:
    """One command with the run's own versions, and what was not installed."""
    have = {
        name: recorded[name].partition("+")[0]
        for name in _INSTALLED
        if recorded.get(name, "")[:1].isdigit()
    }
    if "torch" not in have:
        return "", []
    pinned = [f"{name}=={version}" for name, version in have.items()]
    more = (*releases.UNDECLARED, "pillow") if "torch_npu" in have else ("pillow",)
    absent = [name for name in _INSTALLED if name not in have]
    return " ".join(["pip install", *pinned, *more]), absent


def _directory(found: Port, t: Texts) -> dict[str, str]:
    kind = found.source.kind if found.source is not None else "directory"
    name = "model-directory" if kind == "architecture" else found.name
    path = f"./{name}"
    quoted = shlex.quote(path)
    allowed = "".join(f" --allow-key {shlex.quote(key)}" for key in _allowed(found))
    command = f"python inference.py --model_path {quoted}{allowed}"
    synthetic = f"{command} --device npu"
    keys = {"sample": "inference.sample", "architecture": "inference.no_directory"}
    facts = card.model_facts(found)
    features = facts is not None and facts.num_classes < 2
    call = "features" if features else "predict"
    result = (
        t("inference.features")
        if features
        else t("inference.probabilities", classes=_classes(found))
    )
    return {
        "text": t(keys.get(kind, "inference.directory"), model=path),
        "prepare": f"python -m harness sample-model --output {quoted}" if kind == "sample" else "",
        "commands": f"{command} --image photo.jpg --device npu\n"
        f"{synthetic}        # {t('inference.synthetic')}",
        "python": "from inference import TimmClassifier\n"
        f'clf = TimmClassifier(model_path={_literal(path)}, device="npu")\n'
        f'{"features" if features else "probs"} = clf.{call}(["photo.jpg"])        # {result}',
    }


def _allowed(found: Port) -> tuple[str, ...]:
    return found.source.allow_keys if found.source is not None else ()


def _literal(path: str) -> str:
    """A Python string literal, with double quotes as documented where that is possible."""
    return f'"{path}"' if path.isprintable() and not set(path) & set('"\\') else repr(path)


def _classes(found: Port) -> str:
    main = found.main
    logits = [output for output in main.outputs if len(output.shape) == 2] if main else []
    return str(logits[0].shape[1]) if main is not None and main.gate and logits else "classes"


def _made_from(found: Port, recorded: Mapping[str, str], t: Texts) -> str:
    run = found.run.run
    if run is None:
        return t("files.run_unknown")
    return t(
        "files.run",
        run=run.run_id,
        time=f"{run.started:%Y-%m-%d %H:%M}",
        version=recorded.get("harness", "?"),
    )
