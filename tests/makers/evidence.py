"""What the two sides gave, made of random numbers: the material of a verdict."""

import numpy as np

from harness.judgement.arithmetic import Arithmetic
from harness.judgement.budget import Budget
from harness.judgement.verdict import Evidence, judge

LABELS = [f"image {i}" for i in range(6)]


def logits(seed: int = 0) -> np.ndarray:
    return 3 * np.random.default_rng(seed).normal(size=(6, 100))


NOISE = 1e-3  # of the format that these tests declare


FORMAT = Arithmetic("float16")


def evidence(
    candidate, reference, *, logits="output", labels=LABELS, arithmetic=FORMAT, noise=NOISE, **more
):
    """Evidence whose honest rounding is Gaussian noise; the reference stands for float64 too."""
    rng = np.random.default_rng(99)
    run = {name: a + noise * rng.normal(size=a.shape) for name, a in reference.items()}
    return Evidence(
        reference=reference, candidate=candidate, logits=logits, labels=labels,
        oracle=reference, budget=Budget(arithmetic, (run,)), **more,
    )  # fmt: skip


def verdict(candidate, reference=None, name="output", **more):
    reference = logits() if reference is None else reference
    return judge(evidence({name: candidate}, {"output": reference}, **more))


def noisy(seed, size=NOISE):
    return logits() + size * np.random.default_rng(seed).normal(size=(6, 100))
