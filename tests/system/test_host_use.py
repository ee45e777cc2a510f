import subprocess
import sys
import time

import pytest

from harness.system import host_use, processor
from harness.system.host_use import HostMeter, HostUse

SPIN = "while True: pass"


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_other_work_on_every_processor_is_seen():
    burners = [
        subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(2 * len(processor.affinity()))
    ]
    try:
        time.sleep(0.3)
        meter = HostMeter()
        for _ in range(5):
            with meter:
                spin(0.2)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    found = meter.found()
    assert found.busy
    # Two others for each processor: this thread had about a third of one.
    assert found.waited > 0.2
    assert found.seconds == pytest.approx(1.0, rel=0.5)


def test_what_is_not_told_is_not_busy():
    assert not HostUse(load=9.0, seconds=1.0).busy
    assert HostMeter().found() is None


@pytest.mark.parametrize(
    ("shares", "busy"),
    [
        ({"waited": host_use.WAITED_LIMIT}, False),
        ({"waited": 0.06}, True),
        ({"steal": 0.06}, True),
        ({"others": 0.24}, False),
        ({"others": 0.26}, True),
    ],
)
def test_each_sign_alone_makes_a_busy_host(shares, busy):
    assert HostUse(load=0.0, seconds=1.0, **shares).busy is busy


def test_only_the_timed_intervals_count(monkeypatch, tmp_path):
    """Ticks of /proc/stat: user nice system idle iowait irq softirq steal."""
    monkeypatch.setattr(host_use, "_PROC", tmp_path)
    monkeypatch.setattr(host_use, "_SYSTEM", tmp_path / "cpu")
    monkeypatch.setattr(processor, "affinity", lambda: (0, 2))
    monkeypatch.setattr(host_use, "_ticks", lambda: 100)
    clock = iter([0.0, 1.0, 5.0, 6.0])
    monkeypatch.setattr(host_use.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(host_use.time, "process_time", lambda: 0.0)
    (tmp_path / "cpu" / "cpu0" / "cpufreq").mkdir(parents=True)

    def state(user: int, steal: int, kilohertz: int) -> None:
        rows = [f"cpu{n} {u} 0 0 0 0 0 0 {s} 0 0" for n, u, s in
                ((0, user, steal), (1, 9999, 9999), (2, 0, 0))]  # fmt: skip
        (tmp_path / "stat").write_text("\n".join(rows))
        (tmp_path / "cpu" / "cpu0" / "cpufreq" / "scaling_cur_freq").write_text(f"{kilohertz}\n")

    meter = HostMeter()
    state(0, 0, 3_000_000)
    with meter:
        state(50, 10, 2_000_000)
    state(500, 300, 1_000_000)  # between the intervals: nobody's
    with meter:
        state(550, 310, 1_500_000)
    found = meter.found()
    assert found.seconds == pytest.approx(2.0)
    # 100 ticks of 400, less one for each of the two processors.
    assert found.others == pytest.approx((1.0 - 2 / 100) / 4.0)
    assert found.steal == pytest.approx(0.2 / 4.0)
    assert (found.megahertz_low, found.megahertz_high) == (1500.0, 3000.0)
    assert found.waited is None
