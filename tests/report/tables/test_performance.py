import datetime

from harness.report.tables import performance, provenance
from harness.system.host_use import HostUse
from tests.makers.records import case_record, leg, published_case


def test_the_documented_performance_table():
    rows = dict(performance.documented(published_case()).rows)
    assert rows["NPU throughput"] == "115.2 img/s"
    assert rows["CPU/NPU speed-up"] == "49.9 x"


def test_a_cpu_time_from_the_cache_says_when_and_where_it_was_measured():
    case = published_case()
    made = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
    timing = case.reference.timing.model_copy(update={"cached_since": made})
    cached = case.model_copy(
        update={"reference": case.reference.model_copy(update={"timing": timing})}
    )
    said = "measured when the reference was made (2026-01-02 03:04 UTC, Some <card>)"
    rows = dict(performance.documented(cached).rows)
    assert rows["CPU throughput"] == f"2.3 img/s, 2 threads, {said}"
    assert rows["CPU/NPU speed-up"].startswith("none: the CPU was timed in an earlier run")
    assert cached.speed_ratio is None
    assert dict(provenance.table(cached).rows)["CPU answers"] == (
        "from the reference cache, made 2026-01-02 03:04 UTC"
    )
    fresh = dict(performance.documented(case).rows) | dict(provenance.table(case).rows)
    assert "measured" not in fresh["CPU throughput"]
    assert "CPU answers" not in fresh


def test_a_busy_host_voids_the_speed_up():
    case = published_case()
    use = HostUse(load=9.0, seconds=5.2, waited=0.4, steal=0.0, others=0.5)
    timing = case.reference.timing.model_copy(update={"host_use": use})
    busy = case.model_copy(
        update={"reference": case.reference.model_copy(update={"timing": timing})}
    )
    rows = dict(performance.documented(busy).rows)
    assert rows["CPU/NPU speed-up"].startswith("none: HOST BUSY")
    assert "HOST BUSY (40 % waited" in rows["CPU throughput"]
    assert busy.speed_ratio is None


def test_an_emulated_device_has_no_speed():
    case = case_record(reference=leg("cpu"), candidate=leg("npu-emulated"), emulated=True)
    table = performance.documented(case)
    assert "EMULATED" in table.title
    assert not any("img/s" in value for name, value in table.rows if name != "CPU throughput")
