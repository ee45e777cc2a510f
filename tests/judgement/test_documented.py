import numpy as np
import pytest

from harness.judgement.documented import documented_gate
from harness.system.status import Status
from tests.makers.evidence import LABELS, logits, verdict


def test_the_documented_tables_are_the_documented_formulas():
    rng = np.random.default_rng(1)
    cpu, npu = logits(), logits() + 0.05 * rng.normal(size=(6, 100))
    p = np.exp(cpu) / np.exp(cpu).sum(1, keepdims=True)
    q = np.exp(npu) / np.exp(npu).sum(1, keepdims=True)
    cosines = (p * q).sum(1) / np.sqrt((p * p).sum(1) * (q * q).sum(1))
    gate = documented_gate(cpu, npu, LABELS)
    np.testing.assert_allclose([row.cosine for row in gate.rows], cosines, rtol=1e-12)
    assert gate.mean_cosine == pytest.approx(cosines.mean())
    assert gate.mae == pytest.approx(np.abs(p - q).mean())
    assert gate.error_rate_percent == pytest.approx(100 * (1 - cosines.mean()))
    assert [row.cpu_top1 for row in gate.rows] == cpu.argmax(1).tolist()


def test_an_output_that_is_softmax_already_is_not_flattened_again():
    def softmax(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    probabilities = softmax(logits())
    wrong = probabilities.copy()
    wrong[2] = wrong[3]
    good = verdict(probabilities, probabilities, noise=1e-6)
    bad = verdict(wrong, probabilities, noise=1e-6)
    assert good.status is Status.PASS
    assert any("probabilities already" in note for note in good.notes)
    assert bad.status is Status.FAIL_ACCURACY
    assert not bad.gate.passed
    assert bad.gate.rows[2].cosine < 0.9
