"""Tables of speed: the documented one, with how the CPU was measured."""

from __future__ import annotations

from harness.judgement.documented import DOCUMENTED_BATCH, DOCUMENTED_IMAGES
from harness.records.lines import CaseRecord
from harness.report.tables.cells import EMULATED, MINUTE, Table, device_word, label
from harness.report.tables.missing import english, speed_up_missing
from harness.system.host_use import HostUse
from harness.system.messages import say


def documented(case: CaseRecord) -> Table | None:
    """The documented performance table; an emulated device gives no figure of merit."""
    if case.reference is None or case.candidate is None:
        return None
    cpu, device = case.reference.timing, case.candidate.timing
    word = device_word(case)
    protocol = (
        "port protocol"
        if (device.images, device.batch_size) == (DOCUMENTED_IMAGES, DOCUMENTED_BATCH)
        else "not the port protocol"
    )
    title = (
        f"Performance ({protocol}: {device.images} images, batch {device.batch_size}, "
        f"one warm-up, {len(device.forward_seconds)} timed)"
    )
    if case.emulated:
        none = f"none: an {EMULATED} device runs on this CPU"
        rows = ((f"{word} throughput", none), (f"CPU/{word} speed-up", none))
    else:
        why = english(speed_up_missing(case), case)
        ratio = f"{case.speed_ratio:.1f} x" if why is None else f"none: {why}"
        rows = (
            (f"{word} throughput", f"{device.images_per_second:.1f} img/s"),
            (f"CPU/{word} speed-up", ratio),
        )
    reference = f"{cpu.images_per_second:.1f} img/s, {cpu.threads} threads"
    if cpu.cached_since is not None:
        reference += (
            f", measured when the reference was made ({cpu.cached_since:{MINUTE}}, "
            f"{case.reference.device.name})"
        )
    if cpu.busy:
        assert cpu.host_use is not None
        reference += f" HOST BUSY ({', '.join(shares(cpu.host_use))})"
    return Table(label(case, title), ("metric", "value"), (*rows, ("CPU throughput", reference)))


def shares(use: HostUse) -> list[str]:
    """What others had of the host, in words."""
    words = (
        say("host.waited", "waited"),
        say("host.stolen", "stolen by the hypervisor"),
        say("host.others", "used by others"),
    )
    found: list[str] = [
        say("host.share", "{share} % {word}", share=f"{100 * share:.0f}", word=word)
        for word, share in zip(words, (use.waited, use.steal, use.others), strict=True)
        if share is not None
    ]
    return found or [say("host.load", "load {load}", load=f"{use.load:.2f}")]
