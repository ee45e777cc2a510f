"""What the parts of a labelled run say together."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from pathlib import Path

from harness.judgement import task_accuracy as judgement
from harness.judgement.task_accuracy import Counts
from harness.records import task_accuracy as records
from harness.records.task_accuracy import Answered, Part, TaskRun, Unread
from harness.system.status import ExitCode, Finding, Status

# Of each kind: a device that is wrong everywhere would fill the page, and memory.
MOST_FLIPS = 100
_MOST_UNREAD = 20
LOST, GAINED, OTHER = "right on the CPU alone", "right on the device alone", "wrong on both"
KINDS = (LOST, GAINED, OTHER)
# A part of the images has no verdict of its own: several looks would find a worse one by chance.
_OF_THE_WHOLE = (Status.FAIL_ACCURACY, Status.INCONCLUSIVE)


@dataclasses.dataclass(frozen=True)
class Flip:
    """An image with another Top-1 on the device; `picture`: JPEG in base64."""

    image: Answered
    picture: str

    @property
    def kind(self) -> str:
        """Which side is right."""
        return LOST if self.image.cpu_right else GAINED if self.image.device_right else OTHER


class Result:
    """The sum of a run's parts; it holds a bounded number of images, however many there are."""

    def __init__(self, run: TaskRun) -> None:
        self.run = run
        self.counts = Counts()
        self.done: set[int] = set()
        self.unread = 0
        self.first_unread: list[Unread] = []
        # Only those with a picture: the file has all of them.
        self.flips: dict[str, list[Flip]] = {kind: [] for kind in KINDS}
        self.flip_counts: collections.Counter[str] = collections.Counter()
        self.fault_effects: list[int] = []

    def add(self, part: Part) -> None:
        """Count a part."""
        self.done.add(part.number)
        self.unread += len(part.unread)
        self.first_unread += part.unread[: _MOST_UNREAD - len(self.first_unread)]
        for image in part.answered:
            self.counts += image.counts
            if image.flipped:
                flip = Flip(image, part.pictures.get(image.name, ""))
                self.flip_counts[flip.kind] += 1
                if flip.picture and len(self.flips[flip.kind]) < MOST_FLIPS:
                    self.flips[flip.kind].append(flip)
        pairs = itertools.zip_longest(self.fault_effects, part.fault_effects, fillvalue=0)
        self.fault_effects = [before + more for before, more in pairs]

    @property
    def missing(self) -> list[int]:
        """Parts of this run that are not there."""
        return [number for number in self.run.mine() if number not in self.done]

    @property
    def findings(self) -> list[Finding]:
        """What counts against the device; of a shard, only what its own images show."""
        found = judgement.judge(self.counts, len(self.run.classes), self.run.fallback)
        return [one for one in found if not (self.run.shard and one.status in _OF_THE_WHOLE)]

    @property
    def status(self) -> Status:
        """Of the whole set; a shard without a finding is not judged."""
        found = self.findings
        return Status.SKIP if self.run.shard and not found else judgement.status(found)

    @property
    def code(self) -> ExitCode:
        """1 for a failure or no evidence, 12 where parts are missing, else 0."""
        if self.status not in (Status.PASS, Status.SKIP, Status.INCONCLUSIVE):
            return ExitCode.FAILED
        if self.missing:
            return ExitCode.INCOMPLETE
        return ExitCode.FAILED if self.status is Status.INCONCLUSIVE else ExitCode.OK


def read(path: Path) -> Result:
    """Sum up a results file, or the one in a folder.  Raises UsageProblem as `records.parts`."""
    result = Result(records.read_run(path))
    for part in records.parts(path):
        result.add(part)
    return result
