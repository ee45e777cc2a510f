from harness.records import results_file
from tests.makers.throughput import measured_case


def test_a_measurement_survives_the_round_trip(tmp_path):
    record = measured_case()
    results_file.append(tmp_path / "r.jsonl", record)
    (read,) = results_file.read(tmp_path / "r.jsonl").cases
    assert read == record and read.throughput.rows[0].speed_up == record.throughput.rows[0].speed_up
