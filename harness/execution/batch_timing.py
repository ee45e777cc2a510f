"""Times one batch size on one side, in that side's own process.

    first call -> search for the CPU's setting -> warm-up until stable -> timed calls -> copies

Every timed call stands alone between two synchronisations of the device, so that percentiles are
those of single calls.  Nothing is removed: outliers are counted.

Torch, and what brings it in, is imported inside functions: the run's own process only asks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.execution import legs
from harness.execution.memory_meter import MemoryMeter
from harness.judgement import arithmetic, timing
from harness.records.throughput import BatchTiming, Copies, Setting
from harness.system import process, processor
from harness.system.host_use import HostMeter
from harness.system.messages import Said, say
from harness.system.processor import HostInfo
from harness.system.status import CaseProblem, Stage, StageCallback, Status

if TYPE_CHECKING:
    import torch

    from harness.devices.device import Device

# Shares of a batch's time; the timed calls have the rest.
_SEARCH, _WARM_UP, _COPIES = 0.3, 0.2, 0.1
# Warm-up: the medians of two windows of calls agree within 5 %, or ten windows are over.
_WINDOW, _WINDOWS, _STABLE_WITHIN = 5, 10, 0.05
# Timed calls: the 99th percentile needs 100; a record keeps each, so there is an end.
_FEWEST, _ENOUGH, _MOST = 3, timing.needed(99), 1000
_LOOK_EVERY = 1.3  # factor between two looks at the precision: many looks would flatter it
_MOST_COPIES = 20
_LAYOUTS = {"contiguous": "contiguous_format", "channels_last": "channels_last"}  # of torch
_TRIAL_SECONDS, _ROUNDS = 0.5, 5  # longest trial of a setting, and how many it may have


@dataclasses.dataclass(frozen=True)
class MeasureRequest:
    """One batch size for one side; small enough to send to another process.

    `seconds`: time for it; `precision`: as in `Plan`.
    """

    leg: legs.LegRequest
    batch_size: int
    seconds: float
    precision: float

    def answer(self, device: Device, on_stage: StageCallback) -> BatchTiming:
        """Time the batch in a device's process.  Raises CaseProblem."""
        return run(device, self, on_stage)


def run(device: Device, request: MeasureRequest, on_stage: StageCallback) -> BatchTiming:
    """Measure; `on_stage` hears of each stage.

    Raises CaseProblem with the status and stage of what went wrong.
    """
    import torch

    from harness.execution import autocast

    stage = Stage.LOAD

    def enter(new: Stage) -> None:
        nonlocal stage
        stage = new
        on_stage(new)

    threads, onednn = torch.get_num_threads(), torch.backends.mkldnn.enabled
    try:
        cast = autocast.of(request.leg.dtype, device.torch_device)
        with process.first_to_go(), torch.inference_mode(), cast:
            # It is on by default; a process that turned it off would be no fair CPU.
            torch.backends.mkldnn.enabled = torch.backends.mkldnn.is_available()
            enter(Stage.LOAD)
            measurement = _Measurement(device, request, enter)
            with device.watching(measurement.model):
                return measurement.run()
    except CaseProblem:
        raise
    except Exception as error:
        if process.exhausted(error):
            why = say("batch.host_memory", "the host's memory is not enough")
            raise _no_memory(request.batch_size, why) from error
        raise legs.problem(device, error, stage) from error
    finally:
        torch.set_num_threads(threads)
        torch.backends.mkldnn.enabled = onednn


class _Measurement:
    """A model on its device and one batch of images."""

    def __init__(self, device: Device, request: MeasureRequest, enter: StageCallback) -> None:
        import torch

        self.device = device
        self.request = request
        self.enter = enter
        leg = request.leg
        device.plant(leg.fault_plan)
        device.apply_numerics(leg.numerics)
        self.dtype = getattr(torch, arithmetic.storage(leg.dtype))
        self.model = device.place(leg.model.load().model, self.dtype, leg.promoted)
        self.images = self._repeated(leg.inputs.load().tensors["images"])  # on the host
        self.is_cpu = device.spec.kind == "cpu"
        self.events = device.event_pair()

    def run(self) -> BatchTiming:
        """All steps in their order."""
        began, share = time.perf_counter(), self.request.seconds
        self.enter(Stage.TRANSFER)
        batch = self.images.to(self.device.torch_device)
        self.device.synchronize()
        self.enter(Stage.FORWARD)
        first, _ = self._call(batch)
        about, setting, search = None, None, []
        if self.is_cpu:
            about = _describe_host()
            search = self._search(about, began + _SEARCH * share)
            setting = _fastest(search)
            batch = self._apply(setting)
        meter = MemoryMeter(self.device)
        warm_up, stable = self._warm_up(batch, time.perf_counter() + _WARM_UP * share)
        kept = 0.0 if self.is_cpu else _COPIES
        started, used_cpu = time.perf_counter(), time.process_time()
        others = HostMeter()
        seconds, events = self._timed(batch, began + (1 - kept) * share, others)
        cores = (time.process_time() - used_cpu) / (time.perf_counter() - started)
        used = meter.read()
        copies = None if self.is_cpu else self._copies(batch, began + share)
        return BatchTiming(
            batch_size=self.request.batch_size,
            first_seconds=first,
            warm_up=warm_up,
            stable=stable,
            seconds=tuple(seconds),
            wall=timing.summarise(seconds),
            events=timing.summarise(events) if events else None,
            copies=copies,
            memory=used,
            cores=cores,
            spent=time.perf_counter() - began,
            setting=setting,
            search=tuple(search),
            host=about,
            host_use=others.found() if self.is_cpu else None,
        )

    def _call(self, batch: torch.Tensor) -> tuple[float, float | None]:
        """One forward between two synchronisations: seconds by the host's clock and by events."""
        events = self.events
        self.device.synchronize()
        started = time.perf_counter()
        if events is not None:
            events[0].record()
        output = self.model(batch)
        if events is not None:
            events[1].record()
        self.device.synchronize()
        taken = time.perf_counter() - started
        del output  # after the clock was read, and before the next call needs its memory
        return taken, None if events is None else events[0].elapsed_time(events[1]) / 1e3

    def _warm_up(self, batch: torch.Tensor, deadline: float) -> tuple[int, bool]:
        """Call until two windows agree; returns the number of calls and whether they do."""
        before: list[float] = []
        calls = 0
        for _ in range(_WINDOWS):
            latest: list[float] = []
            while len(latest) < _WINDOW:
                latest.append(self._call(batch)[0])
                calls += 1
                if time.perf_counter() > deadline:
                    return calls, False
            if before and timing.stable(before, latest, _STABLE_WITHIN):
                return calls, True
            before = latest
        return calls, False

    def _timed(
        self, batch: torch.Tensor, deadline: float, others: HostMeter
    ) -> tuple[list[float], list[float]]:
        """Call until the median is known precisely enough, or the time is over."""
        seconds: list[float] = []
        events: list[float] = []
        look = float(_ENOUGH)
        while len(seconds) < _MOST:
            with others if self.is_cpu else contextlib.nullcontext():
                wall, event = self._call(batch)
            seconds.append(round(wall, 7))
            if event is not None:
                events.append(round(event, 7))
            if len(seconds) >= _FEWEST and time.perf_counter() > deadline:
                break
            if len(seconds) >= look:
                if timing.summarise(seconds).precision <= self.request.precision:
                    break
                look *= _LOOK_EVERY
        return seconds, events

    def _copies(self, batch: torch.Tensor, deadline: float) -> Copies:
        """Copy the images in and the outputs out, several times, each synchronised."""
        from harness.execution.outputs import flatten

        self.enter(Stage.TRANSFER)
        outputs = [tensor for _, tensor in flatten(self.model(batch))]
        into, out = [], []
        for _ in range(_MOST_COPIES):
            into.append(self._time(lambda: self.images.to(self.device.torch_device)))
            out.append(self._time(lambda: [tensor.cpu() for tensor in outputs]))
            if time.perf_counter() > deadline:
                break
        return Copies(timing.summarise(into).p50, timing.summarise(out).p50, len(into))

    def _time(self, action: Callable[[], object]) -> float:
        self.device.synchronize()
        started = time.perf_counter()
        action()
        self.device.synchronize()
        return time.perf_counter() - started

    def _search(self, about: HostInfo, deadline: float) -> list[Setting]:
        """Try thread counts and layouts; the first setting is tried whatever time there is.

        In further rounds, the fastest first, a setting keeps the least of its medians: a slow
        moment of the machine shall not decide.
        """
        counts = processor.thread_counts(
            about.physical_cores, about.logical_cores, about.quota, about.default_threads
        )
        wanted = [Setting(n, layout, None) for n in counts for layout in _LAYOUTS]
        longest = min(_TRIAL_SECONDS, _SEARCH * self.request.seconds / len(wanted) / 2)
        found: list[Setting] = []
        for setting in wanted:
            if found and time.perf_counter() > deadline:
                note = "not tried: the time for the search was over"
                found.append(dataclasses.replace(setting, note=note, tried=False))
            else:
                found.append(self._try(setting, longest))
        tried = [number for number, setting in enumerate(found) if setting.seconds is not None]
        ranked = sorted(tried, key=lambda number: found[number].seconds or 0)
        for number in ranked * (_ROUNDS - 1):
            if time.perf_counter() > deadline:
                break
            again = self._try(found[number], longest)
            if again.seconds is not None and again.seconds < (found[number].seconds or 0):
                found[number] = again
        return found

    def _try(self, setting: Setting, seconds: float) -> Setting:
        """The setting with the median of its forwards over about so many seconds."""
        from torch.utils import benchmark

        try:
            batch = self._apply(setting)
            timer = benchmark.Timer(
                "model(batch)",
                globals={"model": self.model, "batch": batch},
                num_threads=setting.threads,
                timer=time.perf_counter,
            )
            trial = timer.blocked_autorange(min_run_time=seconds)
        except RuntimeError as error:
            if process.exhausted(error):
                raise
            # A model may ask for a view that this layout does not allow.
            note = " ".join(f"failed: {error}".split())[:200]
            return dataclasses.replace(setting, note=note)
        return dataclasses.replace(setting, seconds=round(float(trial.median), 7))

    def _apply(self, setting: Setting) -> torch.Tensor:
        """Bring threads and model into a setting; returns the images in its layout."""
        import torch

        torch.set_num_threads(setting.threads)
        layout = getattr(torch, _LAYOUTS[setting.layout])
        self.model = self.model.to(memory_format=layout)  # type: ignore[call-overload]
        return self.images.contiguous(memory_format=layout)

    def _repeated(self, images: torch.Tensor) -> torch.Tensor:
        """One batch [batch_size, 3, H, W] of the case's images, again and again."""
        import torch

        size = self.request.batch_size
        needed = size * images[0].numel() * torch.empty((), dtype=self.dtype).element_size()
        free = process.available()
        if free is not None and needed > free:
            why = say(
                "batch.images_memory",
                "its images alone are {needed} GB, {free} GB are free",
                needed=f"{needed / 1e9:.3g}",
                free=f"{free / 1e9:.3g}",
            )
            raise _no_memory(size, why)
        return images.to(self.dtype)[torch.arange(size) % len(images)].contiguous()


def _fastest(search: list[Setting]) -> Setting:
    """The setting with the least median.  Raises CaseProblem where none ran."""
    tried = [(setting.seconds, setting) for setting in search if setting.seconds is not None]
    if not tried:
        said = say("batch.no_setting", "No setting of the CPU works: {note}", note=search[0].note)
        raise CaseProblem(Status.FAIL_REFERENCE, Stage.FORWARD, said)
    return min(tried, key=lambda pair: pair[0])[1]


def _describe_host() -> HostInfo:
    import torch

    return processor.describe(
        torch.get_num_threads(),
        torch.backends.cpu.get_cpu_capability(),
        torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled),
    )


def _no_memory(batch_size: int, why: Said) -> CaseProblem:
    said = say("batch.memory", "Batch {size} does not fit: {why}.", size=batch_size, why=why)
    return CaseProblem(Status.ERROR_OOM, Stage.TRANSFER, said)
