"""Quality over time as a picture."""

import math
from itertools import pairwise
from xml.etree import ElementTree as ET

from zhiyin.evaluation.replay import Curve, curves_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_every_curve_is_drawn_and_named_with_its_last_value():
    curves = [Curve("frozen", [0.05, 0.04, 0.03]), Curve("learning & counting", [0.05, math.nan, 0.08])]
    picture = ET.fromstring(curves_svg("NDCG@10", curves))
    paths = [path.attrib["d"] for path in picture.iter(f"{SVG}path")]
    assert [path.count("L") for path in paths] == [2, 1], "what is not known is left out"
    told = [text.text for text in picture.iter(f"{SVG}text")]
    assert "frozen 0.0300" in told
    assert "learning & counting 0.0800" in told


def test_names_do_not_overlap():
    curves = [Curve(name, [0.1, 0.1]) for name in "abcd"]
    picture = ET.fromstring(curves_svg("same", curves))
    places = [float(t.attrib["y"]) for t in picture.iter(f"{SVG}text") if t.text and "0.1000" in t.text]
    assert all(below - above >= 13 for above, below in pairwise(places))


def test_higher_is_higher():
    picture = ET.fromstring(curves_svg("rising", [Curve("a", [0.1, 0.2])]))
    _, first, _, second = (
        next(picture.iter(f"{SVG}path")).attrib["d"].replace("M", "").replace("L", "").split()
    )
    assert float(second) < float(first)
