"""Pictures are rasterised with fewer layers, and hold the same pixels."""

import re
import zlib

import numpy as np
import pytest
import vl_convert
from studies import study

from ropewalk.report import write
from ropewalk.report.content import content
from ropewalk.report.raster import flat
from ropewalk.report.theme import picture_config


@pytest.fixture(scope="module")
def drawn():
    made = content(study({"yarn": {"factor": [2, 3, 4]}, "linear": {"factor": [2, 3, 4]}}))
    config = picture_config(made.styles)
    return {name: write.svg(spec, config) for name, spec in write.drawings(made).items()}


def pixels(svg):
    """Bytes of a small rasterised SVG, int `[H, 4 W]`, decoded as the PNG specification says (section 9, filtering)."""
    data, chunks, at = vl_convert.svg_to_png(svg, scale=0.3), b"", 8
    width = int.from_bytes(data[16:20], "big")
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks += data[at + 8 : at + 8 + size] * (data[at + 4 : at + 8] == b"IDAT")
        at += size + 12
    raw, stride = zlib.decompress(chunks), 4 * width + 1
    above, found = [0] * (4 * width + 4), []
    for start in range(0, len(raw), stride):
        kind, line = raw[start], [0, 0, 0, 0]
        for x, byte in enumerate(raw[start + 1 : start + stride], 4):
            left, up, corner = line[x - 4], above[x], above[x - 4]
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda value: abs(guess - value))
            line.append((byte + (0, left, up, (left + up) // 2, nearest)[kind]) % 256)
        found.append(line[4:])
        above = line
    return np.array(found)


@pytest.mark.parametrize("name", ["ratio", "position", "tail"])
def test_the_same_pixels(drawn, name):
    svg = drawn[name]
    assert np.abs(pixels(flat(svg)) - pixels(svg)).max() <= 3  # of 255: the order of rounding
    assert len(re.findall(' opacity="0', svg)) > len(re.findall(' opacity="0', flat(svg)))


def test_lines_of_a_layer_are_clipped_once(drawn):
    assert drawn["ratio"].count("clip-path") > 2 * flat(drawn["ratio"]).count("clip-path")


def test_other_frames_and_places_stay_as_they_are():
    def layer(transform, width):
        inner = "".join(
            f'<g transform="{transform}"><g clip-path="url(#{x})"><path stroke="red" d="M0,0h9"/></g></g>' for x in "ab"
        )
        frames = f'<clipPath id="a"><rect width="9"/></clipPath><clipPath id="b"><rect width="{width}"/></clipPath>'
        return f'<svg xmlns="http://www.w3.org/2000/svg">{frames}<g class="layer_1_pathgroup">{inner}</g></svg>'

    counts = [flat(layer(*case)).count("clip-path") for case in (("translate(0,0)", 9), ("translate(1,0)", 9))]
    assert counts == [1, 2]
    assert flat(layer("translate(0,0)", 8)).count("clip-path") == 2


def test_what_has_two_paints_keeps_its_opacity():
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><path fill="red" stroke="blue" opacity="0.5"/></svg>'
    assert 'opacity="0.5"' in flat(svg)
    assert "-opacity" not in flat(svg)
