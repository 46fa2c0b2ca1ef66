"""Colours that colour-blind readers can tell apart, measured."""

import itertools

import numpy as np
import pytest

from ropewalk.report.palette import BACKGROUND, BUILT_IN, styles

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
FIRST = ("yarn", "linear", "ntk_aware", "dynamic_ntk", "llama3", "longrope")


def linear(code: str) -> np.ndarray:
    values = np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Björn Ottosson's Oklab, where a just noticeable difference is about 0.02."""
    lms = np.cbrt(
        np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
        @ np.clip(rgb, 0, 1)
    )
    return (
        np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        @ lms
    )


def luminance(code: str) -> float:
    return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(code))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_methods_stay_apart(theme, vision):
    seen = {name: oklab(VISION[vision] @ linear(getattr(style, theme))) for name, style in BUILT_IN.items()}
    for one, other in itertools.combinations(seen, 2):
        if {one, other} == {"none", "truncate"}:
            continue
        distance = np.linalg.norm(seen[one] - seen[other])
        assert distance > (0.09 if {one, other} <= set(FIRST) else 0.06), (one, other)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_on_the_page(theme):
    page = luminance(BACKGROUND[theme])
    for name, style in BUILT_IN.items():
        high, low = sorted([luminance(getattr(style, theme)), page], reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, name


def test_a_method_looks_the_same_in_every_report():
    assert styles(["none", "yarn", "linear"])["yarn"] == styles(["yarn", "llama3", "truncate"])["yarn"]


def test_shapes_tell_apart_what_colours_might_not():
    assert len({style.shape for style in BUILT_IN.values()}) == len(BUILT_IN), "a print in grey"


def test_plug_ins_get_colours_of_absent_methods_then_other_marks():
    names = ["none", "yarn", *(f"mine_{i}" for i in range(30))]
    found = styles(names)
    assert list(found) == names
    assert found["mine_0"].light != found["yarn"].light
    assert found["yarn"] == BUILT_IN["yarn"]
    assert len({(s.light, s.shape, s.dash) for s in found.values()}) == len(names)
