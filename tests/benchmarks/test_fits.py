"""The coefficients in the emulator's sources are those of the fit, and the fit is good."""

import re

import numpy as np
import pytest
from scipy import special

from benchmarks import fits
from harness.devices.emulator.build import SOURCES


@pytest.fixture(scope="module")
def fitted():
    return fits.coefficients()


def test_the_fits_are_as_near_as_their_forms_allow(fitted):
    x = np.linspace(1e-3, fits.GELU_CAP, 10_001)
    power = np.polyval(fitted["gelu"][::-1], x**2) * x
    assert np.abs(x / (1 + np.exp(power)) - x * special.ndtr(x)).max() < 1e-7
    x = np.linspace(1e-3, fits.TANH_SWITCH, 10_001)
    near = x + x * x**2 * np.polyval(fitted["tanh"][::-1], x**2)
    assert np.abs(near / np.tanh(x) - 1).max() < 2.0**-24
    x = np.linspace(1e-3, fits.ERF_CAP, 10_001)
    ratio = np.polyval(fitted["erf above"][::-1], x**2) / np.polyval(
        fitted["erf below"][::-1], x**2
    )
    assert np.abs(x * ratio / special.erf(x) - 1).max() < 2.0**-24


def test_the_sources_have_them(fitted):
    """To float32, within what another linear algebra library may change."""
    text = (SOURCES / "cann_loops.cpp").read_text()
    bodies = {
        name: re.search(rf"inline float {name}\(float x\) {{(.*?)\n}}", text, re.S)[1]
        for name in ("gelu_erf", "tanh_of", "erf_of")
    }

    def numbers(body, letter):
        """Of one polynomial by Horner's rule, in rising order."""
        found = re.findall(rf"{letter} = (?:{letter} \* u \+ )?(-?[\d.e-]+)f", body)
        return [float(value) for value in found][::-1]

    for name, letter, key in (
        ("gelu_erf", "p", "gelu"),
        ("tanh_of", "p", "tanh"),
        ("erf_of", "p", "erf above"),
        ("erf_of", "q", "erf below"),
    ):
        np.testing.assert_allclose(numbers(bodies[name], letter), fitted[key], rtol=1e-4)
