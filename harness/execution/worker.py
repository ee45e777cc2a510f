"""One side's own process: an error, crash or hang there costs one case, not the run.

After a device error torch_npu may silently drop every later operator, so a process that has
seen one is never asked again: it is replaced.  The process is started fresh (not forked: a
fork after NPU initialisation fails) and talks over a pipe.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from harness.devices import emulated_kernels
from harness.devices.spec import DeviceSpec
from harness.system import process
from harness.system.files import ROOT
from harness.system.messages import Said, say
from harness.system.status import CaseProblem, Stage, StageCallback, Status, UsageProblem

if TYPE_CHECKING:
    from harness.devices.device import Device

START_SECONDS = 600  # first use compiles the emulator
_SETTLE_SECONDS = 60  # a start that takes longer does not hold up the CPU's side
# After these the process is not to be trusted.
POISONED = (Status.ERROR_DEVICE, Status.ERROR_OOM, Status.ERROR_TIMEOUT, Status.FAIL_UNSUPPORTED)


# The working directory is no place for modules: a model's folder may hold a yaml.py.
_OLDER_SAFE_PATH = (
    "-c",
    "import sys; sys.path.remove(''); import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)",
)
_SAFE_PATH = ("-P", "-m") if sys.version_info >= (3, 11) else _OLDER_SAFE_PATH

Answer = TypeVar("Answer", covariant=True)
_Side = TypeVar("_Side")
_Asked = TypeVar("_Asked", contravariant=True)


class Opening(Protocol):
    """What a process opens when it starts; it can be pickled, and its text names the process."""

    def open(self) -> Any:
        """Open it there.  Raises UsageProblem, with the remedy, when it is not to be had."""


class Request(Protocol[_Asked, Answer]):
    """A question to a process about what it opened; it can be pickled, and so can its answer."""

    def answer(self, side: _Asked, on_stage: StageCallback, /) -> Answer:
        """Answer in that process; `on_stage` hears of each stage.  Raises CaseProblem."""


class Worker(Generic[_Side]):
    """Answers requests in a process of its own, replacing it when it must."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.started_processes = 0
        self.beside: Worker[Any] | None = None  # the other side, whose memory is told as well
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: Connection[Any, Any] | None = None
        self._answers: Connection[Any, Any] | None = None
        self._owner = 0  # process id
        self._log: Any = None
        self._ready = False

    def start(self) -> None:
        """Start the process without waiting for it to be ready."""
        if self._process is not None and self._owner == os.getpid():
            return
        # A process that was forked from the one that started it must not take its answers away.
        self._owner = os.getpid()
        # Two pipes and no socket: plugins that forbid sockets mean those to other hosts.
        requests, self._requests = Pipe(duplex=False)
        self._answers, answers = Pipe(duplex=False)
        theirs = (requests.fileno(), answers.fileno())
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, *_SAFE_PATH, "harness.execution.worker_main", *map(str, theirs)],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": _python_path()},
            start_new_session=True,  # Ctrl-C is the run's to handle
        )
        requests.close()
        answers.close()
        self._requests.send(self.opening)
        self.started_processes += 1
        self._ready = False

    @property
    def starting(self) -> bool:
        """Whether the process was started and has not said yet that it is ready or has failed."""
        return self._process is not None and not self._ready and not self._said_something(0)

    def settle(self) -> None:
        """Wait a while until the process is ready or has failed, of which the next request tells.

        What is timed in this process meanwhile would share the host's cores with its start.
        """
        if self.starting:
            self._said_something(_SETTLE_SECONDS)

    def _said_something(self, seconds: float) -> bool:
        try:
            return self._answers is None or self._answers.poll(seconds)
        except OSError:  # it died
            return True

    def ask(
        self, request: Request[_Side, Answer], timeout: float, stage: Stage = Stage.LOAD
    ) -> Answer:
        """Have a request answered; `timeout` in seconds counts from when the process is ready.

        `stage`: what the request begins with.  Raises CaseProblem (the request's own, error_crash,
        error_oom, error_timeout), or UsageProblem when what it is to open is not there.
        """
        self.start()
        answered = False
        try:
            self._wait_ready()
            kind, value = self._exchange(request, timeout, stage)
            answered = True
        finally:
            # An interrupt, or another plugin's time limit: the answer that is still to come would
            # be taken for that of the next request.
            if not answered:
                self._ready = False
                self.stop()
        if kind == "usage":
            raise UsageProblem(value)
        if kind == "failed":
            raise self._failed(value)
        answer: Answer = value
        return answer

    def _exchange(
        self, request: Request[_Side, Answer], timeout: float, stage: Stage
    ) -> tuple[str, Any]:
        """Send a request; returns the last message of its answer."""
        assert self._requests is not None and self._answers is not None
        deadline = time.monotonic() + timeout
        killed_before = process.killed_for_memory()
        try:
            self._requests.send(request)
            while True:
                if not self._answers.poll(max(0.0, deadline - time.monotonic())):
                    raise _WithLog(
                        Status.ERROR_TIMEOUT,
                        stage,
                        say(
                            "process.silent",
                            "No answer from {process} within {seconds} s, in stage {stage}: raise "
                            "--case-timeout or look for a hanging operator.",
                            process=self.opening,
                            seconds=f"{timeout:g}",
                            stage=stage.value,
                        ),
                        self.log_tail(),
                    )
                kind, value = self._answers.recv()
                if kind == "stage":
                    stage = value
                elif kind == "warning":
                    warnings.warn(value, stacklevel=3)
                else:
                    return kind, value
        except (EOFError, ConnectionError):
            raise self._crashed(stage, process.killed_for_memory() > killed_before) from None

    def resident(self) -> int:
        """Bytes of memory that the process holds now; 0 where there is none."""
        return process.resident(self._process.pid) or 0 if self._process is not None else 0

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines that the process printed."""
        if self._log is None:
            return ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 8192))
        text: str = self._log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def leave(self) -> None:
        """Let the process end by itself, which `stop` waits for."""
        for pipe in (self._requests, self._answers):
            if pipe is not None:
                pipe.close()

    def stop(self) -> None:
        """End the process, by force if it does not go."""
        if self._process is None:
            return
        self.leave()
        try:
            self._process.wait(timeout=2 if self._ready else 0)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()
        self._process = self._requests = self._answers = self._log = None

    def _wait_ready(self) -> None:
        if self._ready:
            return
        assert self._answers is not None
        try:
            if not self._answers.poll(START_SECONDS):
                raise _WithLog(
                    Status.ERROR_TIMEOUT,
                    Stage.LOAD,
                    say(
                        "process.slow",
                        "The process of {process} was not ready within {seconds} s.",
                        process=self.opening,
                        seconds=START_SECONDS,
                    ),
                    self.log_tail(),
                )
            kind, value = self._answers.recv()
        except (EOFError, ConnectionError):
            raise self._crashed(Stage.LOAD) from None
        if kind == "usage":
            raise UsageProblem(value)
        if kind == "failed":
            raise self._failed(value)
        self._ready = True

    def _failed(self, problem: tuple[str, str, Said]) -> CaseProblem:
        status, stage, reason = Status(problem[0]), Stage(problem[1]), problem[2]
        tail = self.log_tail()
        if status in POISONED or status is Status.ERROR_HARNESS:
            self.stop()
        return _WithLog(status, stage, reason, tail)

    def _crashed(self, stage: Stage, for_memory: bool = False) -> CaseProblem:
        code, peak = self._ended(10)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if code == -signal.SIGKILL and for_memory:
            return _WithLog(
                Status.ERROR_OOM,
                stage,
                say(
                    "process.killed",
                    "The process of {process} was killed in stage {stage} for want of memory "
                    "(peaks: {peaks}): end other programs, or use fewer images or a smaller batch.",
                    process=self.opening,
                    stage=stage.value,
                    peaks=", ".join(
                        f"{side.opening} {size / 1e9:.2f} GB"
                        for side, size in ((self, peak), *self._peak_beside())
                        if size
                    ),
                ),
                self.log_tail(),
            )
        return _WithLog(
            Status.ERROR_CRASH,
            stage,
            say(
                "process.died",
                "The process of {process} died ({how}) in stage {stage}; the record keeps what it "
                "printed last.",
                process=self.opening,
                how=how,
                stage=stage.value,
            ),
            self.log_tail(),
        )

    def _ended(self, seconds: float) -> tuple[int, int | None]:
        """Exit code and peak memory in bytes of a process that is ending; 0 where it does not."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while self._process.returncode is None and time.monotonic() < deadline:
            # Popen.wait would not say what the kernel counted.
            try:
                pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                break
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return self._process.returncode, used.ru_maxrss * 1024
            time.sleep(0.01)
        return self._process.poll() or 0, None

    def _peak_beside(self) -> list[tuple[Worker[Any], int | None]]:
        other = self.beside
        if other is None or other._process is None:
            return []
        return [(other, process.host_peak(other._process.pid))]


def hide_torch_npu() -> None:
    """In a process of the CPU alone: transformers would import it, which fails without CANN."""
    sys.modules.setdefault("torch_npu", None)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class OpenDevice:
    """Opens a device."""

    device: DeviceSpec
    kernels: str

    def __str__(self) -> str:
        return str(self.device)

    def open(self) -> Device:
        """Open it.  Raises UsageProblem, with the remedy, when it is not there."""
        if self.device.kind == "cpu":
            hide_torch_npu()
        from harness.devices.opening import open_device  # brings torch in

        device = open_device(self.device, self.kernels)
        device.describe()  # a device that waits to be asked for is there now
        return device


class DeviceWorker(Worker["Device"]):
    """A device's process."""

    def __init__(self, device: DeviceSpec, kernels: str = emulated_kernels.DEFAULT) -> None:
        """`kernels`: other kernels for the emulated NPU (`devices/emulated_kernels`)."""
        super().__init__(OpenDevice(device, kernels))
        self.device = device


class _WithLog(CaseProblem):
    """A problem together with the last lines of the process that had it."""

    def __init__(self, status: Status, stage: Stage, reason: Said, log_tail: str) -> None:
        super().__init__(status, stage, reason)
        self.log_tail = log_tail


def _python_path() -> str:
    root = str(ROOT)
    # An empty part would stand for the working directory.
    inherited = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return os.pathsep.join([root, *inherited])
