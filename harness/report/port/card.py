"""What a model hub reads of a port: the front matter of a model card, and what the model is."""

from __future__ import annotations

import json
from typing import Any

from harness.cases import architectures
from harness.cases.models.model_facts import ModelFacts
from harness.report.markdown import Verbatim
from harness.report.port.content import Port
from harness.report.port.texts import Texts


def model_facts(found: Port) -> ModelFacts | None:
    """What the records say of the model; None where it was not loaded."""
    legs = (found.main.reference, found.main.candidate) if found.main is not None else ()
    return next((leg.model for leg in legs if leg is not None and leg.model is not None), None)


def front_matter(found: Port, t: Texts) -> str:
    """YAML between two lines of dashes.  JSON texts are YAML, whatever a name holds."""
    facts = model_facts(found)
    classifies = facts is None or facts.num_classes > 1
    fields: dict[str, Any] = {
        "license": (facts.license if facts is not None else "") or "unknown",
        "library_name": "timm",
        "pipeline_tag": "image-classification" if classifies else "image-feature-extraction",
        "language": [t.language],
        "frameworks": ["PyTorch"],
        "hardware": ["NPU"],
    }
    if base := base_model(found):
        fields["base_model"] = base
    tags = ["timm", "ascend", "npu", "torch_npu"]
    fields["tags"] = [*tags, facts.architecture] if facts is not None else tags
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def base_model(found: Port) -> str:
    """Name of the original model on a hub; "" where nothing says it.

    As config.json has it, else a directory's name in the form owner--name, as hubs' clients do.
    """
    facts = model_facts(found)
    if facts is not None and facts.hub:
        return facts.hub
    owner, separator, name = found.name.partition("--")
    is_directory = found.source is not None and found.source.kind == "directory"
    return f"{owner}/{name}" if is_directory and separator and owner and name else ""


def description(found: Port, t: Texts) -> Verbatim:
    """What the model is, in a sentence or two of timm's own facts."""
    facts = model_facts(found)
    if facts is None:
        return t("describe.unknown", model=found.name)
    channels, *sides = facts.input_size
    size = f"{channels} x {' x '.join(map(str, sides))}"
    does = (
        t("describe.classes", count=facts.num_classes)
        if facts.num_classes > 1
        else t("describe.features")
    )
    row = architectures.table()[1].get(facts.architecture.partition(".")[0])
    text = str(
        t(
            "describe.model",
            model=found.name,
            architecture=facts.architecture,
            does=does,
            parameters=f"{facts.parameters / 1e6:.2f}",
            size=size,
        )
    )
    if row is not None and row.macs is not None:
        at = " x ".join(map(str, row.input_size))
        text += t("describe.macs", macs=f"{row.macs / 1e9:.3g}", size=at)
    if row is not None:
        text += t("describe.family", family=row.family)
    return Verbatim(text)
