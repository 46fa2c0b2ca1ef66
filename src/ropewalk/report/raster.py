"""The same SVG with fewer layers: what is half transparent or clipped is rasterised as a picture of its own; pure."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

SVG = "{http://www.w3.org/2000/svg}"
HERE = (None, "translate(0,0)")
_TAG = re.compile(r"<(?:path|line)\b[^>]*>")
_PAINT = re.compile(r' (fill|stroke)="(?!none")')


def flat(svg: str) -> str:
    """A chart as the chart library draws it, ten times as fast to rasterise, with the same pixels up to rounding."""
    return _clipped_once(_TAG.sub(_faint, svg))


def _faint(tag: re.Match[str]) -> str:
    """What has one paint alone is as transparent as that paint."""
    paints = _PAINT.findall(tag[0])
    if len(paints) != 1 or f"{paints[0]}-opacity" in tag[0]:
        return tag[0]
    return tag[0].replace(' opacity="', f' {paints[0]}-opacity="')


def _clipped_once(svg: str) -> str:
    """One clip around the lines of a layer, each of which Vega clips to the same frame."""
    for prefix, address in (("", "http://www.w3.org/2000/svg"), ("xlink", "http://www.w3.org/1999/xlink")):
        Xml.register_namespace(prefix, address)
    root = Xml.fromstring(svg)
    frames = {f"url(#{each.get('id')})": [x.attrib for x in each] for each in root.iter(f"{SVG}clipPath")}
    for layer in root.iter(f"{SVG}g"):
        clipped = [each for each in layer.iter(f"{SVG}g") if each.get("clip-path")]
        inside = [each for each in layer.iter(f"{SVG}g") if each is not layer]
        of = [frames[each.attrib["clip-path"]] for each in clipped]
        if (
            (layer.get("class") or "").endswith("_pathgroup")
            and len(clipped) > 1
            and all(each == of[0] for each in of)
            and all(each.get("transform") in HERE for each in inside)
        ):
            layer.set("clip-path", clipped[0].attrib["clip-path"])
            for each in clipped:
                del each.attrib["clip-path"]
    return Xml.tostring(root, encoding="unicode")
