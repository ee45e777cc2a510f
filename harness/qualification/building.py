"""Makes a catalogue: traces every model on the meta device, in several processes, resumably.

What was traced is appended to a file beside the catalogue, one line a model, so that a process that
is killed costs the models in its hands.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.qualification.calls import Level
from harness.qualification.catalogue import Catalogue, Header, ModelCalls, collect
from harness.system.status import StageCallback

if TYPE_CHECKING:
    from harness.devices.device import Device

Say = Callable[[str], None]
_EVERY = 100  # models between two words of progress


@dataclasses.dataclass(frozen=True)
class AskLevel:
    """A request to a device's process: which calls it gets."""

    def answer(self, device: Device, on_stage: StageCallback) -> Level:
        """That of the device."""
        return Level.of(device.torch_device)


def build(
    header: Header, names: Sequence[str], part: Path, say: Say, *, processes: int = 1
) -> Catalogue:
    """Trace models: names of timm's architectures, or model directories.

    `part`: where each is kept as soon as it is traced; it is read first where it is of the same
    `header`, so that a second call goes on, and is left for the caller to remove.  `processes`: how
    many trace side by side.
    """
    done = {item.name: item for item in _kept(header, part)}
    left = [name for name in names if name not in done]
    if done:
        say(f"{len(names) - len(left)} of {len(names)} models are in {part.name} already")
    with _appending(header, part, new=not done) as append:
        for number, item in enumerate(_traced(header, left, processes), start=1):
            append(item)
            done[item.name] = item
            if number % _EVERY == 0:
                say(f"{number} of {len(left)} models traced")
    return collect(header, (done[name] for name in names))


def _traced(header: Header, names: Sequence[str], processes: int) -> Iterator[ModelCalls]:
    arguments = header.level, header.dtype, header.batch
    if processes <= 1 or len(names) < 2:
        with _Tracing(*arguments) as tracing:
            yield from map(tracing.model, names)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        min(processes, len(names)), context, _start, arguments
    ) as pool:
        yield from pool.map(_in_process, names, chunksize=4)


class _Tracing:
    """A process that traces models: composites are registered once, which takes a while."""

    def __init__(self, level: Level, dtype: str, batch: int) -> None:
        self._level, self._dtype, self._batch = level, dtype, batch
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Tracing:
        self._stack.enter_context(self._level.on_meta())
        return self

    def __exit__(self, *what: object) -> None:
        self._stack.close()

    def model(self, name: str) -> ModelCalls:
        """One model's calls, or why there are none."""
        import torch

        from harness.qualification import calls

        dtype = getattr(torch, self._dtype)
        family = ""
        try:
            model: Any = calls.on_meta(lambda: _model(name), dtype)
            family = type(model).__module__.rpartition(".")[2]
            size = model.pretrained_cfg.get("input_size") or (3, 224, 224)
            counts = calls.count(model, (self._batch, *size), dtype, self._level)
        except Exception as error:  # models raise what they like
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return ModelCalls(name, family, {}, said)
        return ModelCalls(name, family, dict(counts))


def _model(name: str) -> Any:
    from harness.cases.models import directory, loading
    from harness.system.torchvision_shim import import_timm

    if os.sep in name:
        where = Path(name)
        directory.check_there(where)
        config = directory.read_config(where)
        return loading.build(config, None, str(where / "config.json"))[0]
    return import_timm().create_model(name, pretrained=False)


_tracing: _Tracing | None = None


def _start(level: Level, dtype: str, batch: int) -> None:
    """Of a process of the pool."""
    import torch

    global _tracing
    torch.set_num_threads(1)
    _tracing = _Tracing(level, dtype, batch).__enter__()


def _in_process(name: str) -> ModelCalls:
    assert _tracing is not None
    return _tracing.model(name)


@contextlib.contextmanager
def _appending(header: Header, part: Path, *, new: bool) -> Iterator[Callable[[ModelCalls], None]]:
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w" if new else "a", encoding="utf-8") as stream:
        if new:
            stream.write(json.dumps(header.plain) + "\n")

        def append(item: ModelCalls) -> None:
            stream.write(json.dumps(dataclasses.asdict(item)) + "\n")
            stream.flush()

        yield append


def _kept(header: Header, part: Path) -> Iterator[ModelCalls]:
    """What an earlier call left, if it was of the same header; a torn last line is cut off."""
    try:
        data = part.read_bytes()
    except FileNotFoundError:
        return
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.decode(errors="replace").splitlines()
    if not lines or lines[0] != json.dumps(header.plain):
        return
    if len(whole) < len(data):
        with part.open("r+b") as stream:
            stream.truncate(len(whole))
    for line in lines[1:]:
        with contextlib.suppress(ValueError, TypeError):
            yield ModelCalls(**json.loads(line))
