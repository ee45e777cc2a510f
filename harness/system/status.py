"""Statuses, stages, exit codes and the errors that carry them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from harness.system import messages, shown
from harness.system.messages import Message, Said, say


class Status(str, enum.Enum):
    """Outcome of one case, most severe first: when several apply, the first one wins.

    Each is equal to its name as it is written: `status == "pass"`.

    The comment above each group says what it means for the stack under test.
    """

    # Infrastructure: no verdict about the stack.
    ERROR_HARNESS = "error_harness"
    ERROR_DEVICE = "error_device"
    ERROR_CRASH = "error_crash"
    ERROR_TIMEOUT = "error_timeout"
    ERROR_OOM = "error_oom"
    # The case could not be judged as asked, or was judged and failed.
    FAIL_LOAD = "fail_load"
    FAIL_REFERENCE = "fail_reference"
    FAIL_UNSUPPORTED = "fail_unsupported"
    FAIL_FALLBACK = "fail_fallback"
    FAIL_SHAPE = "fail_shape"
    FAIL_NAN = "fail_nan"
    FLAKY = "flaky"
    FAIL_ACCURACY = "fail_accuracy"
    # Judged, but the case could not have failed: no evidence either way.
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"  # noqa: S105 - no password
    SKIP = "skip"

    __str__ = str.__str__

    @property
    def is_error(self) -> bool:
        """True for infrastructure trouble, which says nothing about the stack under test."""
        return self.value.startswith("error_")

    @property
    def is_pass(self) -> bool:
        """True only for `pass`; `inconclusive` and `skip` are not passes."""
        return self is Status.PASS


_PRECEDENCE = {status: rank for rank, status in enumerate(Status)}


def worst(statuses: Iterable[Status]) -> Status:
    """Return the status that wins by the precedence of :class:`Status`.

    Raises ValueError when `statuses` is empty: no evidence is not a pass.
    """
    found = sorted(statuses, key=_PRECEDENCE.__getitem__)
    if not found:
        raise ValueError("no statuses given: a case without any finding has no outcome")
    return found[0]


def standing(first: Status, second: Status) -> Status:
    """The status that stands when a case was tried twice, whoever asked for the second try.

    Only trouble of the infrastructure may be replaced; of two verdicts the worse one stands.
    """
    if first.is_error or second.is_error:
        return second if first.is_error else first
    return worst((first, second))


class Stage(enum.Enum):
    """Where in the life of a case something happened."""

    COLLECT = "collect"
    LOAD = "load"
    REFERENCE = "reference"
    TRANSFER = "transfer"
    FORWARD = "forward"
    SYNCHRONIZE = "synchronize"
    COMPARE = "compare"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One reason that counts against (or limits) a case; `messages`: what `reason` says, by id."""

    status: Status
    stage: Stage
    reason: str
    messages: tuple[Message, ...] = ()

    if TYPE_CHECKING:  # whoever finds something says it by id; a record may be from before

        def __init__(self, status: Status, stage: Stage, reason: Said) -> None: ...

    def __post_init__(self) -> None:
        messages.put_beside(self, "reason", "messages")

    @property
    def said(self) -> Said:
        """The reason with its messages, to be said within another."""
        return messages.beside(self.reason, self.messages)

    def __str__(self) -> str:
        return f"{self.status.value}: {self.reason}"


class ExitCode(enum.IntEnum):
    """Exit codes beside pytest's own 0 to 6."""

    OK = 0
    FAILED = 1
    INTERRUPTED = 2
    USAGE = 4
    NOTHING_SELECTED = 5
    INFRASTRUCTURE = 10
    IMPROVED = 11
    INCOMPLETE = 12


def worst_exit_code(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the code that wins when several apply: 4, 1, 12, 10, 11, 0; 0 when none does."""
    found = set(codes)
    order = (
        *(ExitCode.USAGE, ExitCode.FAILED, ExitCode.INCOMPLETE),
        *(ExitCode.INFRASTRUCTURE, ExitCode.IMPROVED),
    )
    return next((code for code in order if code in found), ExitCode.OK)


class UsageProblem(Exception):
    """Bad input from the user: unknown device, missing file, bad option.  Exit code 4.

    The message is one or a few plain sentences: what, where, what to do.
    """

    def __str__(self) -> str:
        """The message as it may be shown: it names files, keys and values of others."""
        return shown.lines(super().__str__())

    @property
    def said(self) -> Said:
        """The message with its messages by id, for what is a reason of a case as well."""
        return messages.said(self.args[0] if self.args else "")


class CaseProblem(Exception):
    """A case ended without a comparison; carries its status and stage.

    `reason` is one clear sentence, said by its id: what, where, what to do.
    """

    def __init__(self, status: Status, stage: Stage, reason: Said) -> None:
        super().__init__(reason)
        self.status = status
        self.stage = stage
        self.reason = messages.mapped(
            messages.said(reason), lambda text: shown.line(shown.without_credentials(text))
        )


def host_trouble(error: OSError | MemoryError) -> Said:
    """What the host lacks, as a sentence: no bug of the harness."""
    if isinstance(error, MemoryError):
        return say(
            "host.memory",
            "There is not enough memory: end other programs, or give fewer or smaller images.",
        )
    where = shown.line(f"{error.filename}: " if error.filename is not None else "")
    return say(
        "host.trouble",
        "{where}{error}: see whether the disk is full and the folders are yours (`python -m "
        "harness doctor`).",
        where=where,
        error=error.strerror or error,
    )


def unforeseen(error: Exception) -> Said:
    """What an error that nobody took for a case's own means, as a sentence."""
    return host_trouble(error) if isinstance(error, OSError | MemoryError) else own_fault(error)


def own_fault(error: Exception) -> Said:
    """A bug of the harness, as a sentence with what to attach to a report."""
    said = shown.line(f"{type(error).__name__}: {error}")
    return say(
        "harness.failed",
        "The harness itself failed: {error}. Please report it, with the command, the traceback and "
        "the output of `python -m harness doctor --json`.",
        error=said,
    )


StageCallback = Callable[[Stage], None]
