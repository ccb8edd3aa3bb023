"""
The pictures agree with their texts, can be read without seeing them, and load nothing.
"""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.pages import PAGES
from tests.support.readme import ROOT

TEXTS = pictures.texts()
DRAWN = [path for text in TEXTS for path in pictures.drawn(text).values()]
ACTIVE = re.compile(
    r"<(?:\w+:)?(?:script|foreignObject|iframe|image|a|use)\b|\son\w+=|@import|@font-face"
    r"|(?:href|src)=\"(?!#)|url\((?![\"']?#)|javascript:",
    re.IGNORECASE,
)
"""Parts by which a picture could run code, load a file or hold HTML."""


def test_each_picture_has_a_text_and_each_text_is_used() -> None:
    """
    No picture is drawn by hand; each is shown by a page.
    """
    shown = "".join(page.read_text() for page in PAGES)

    assert len(TEXTS) >= 5
    assert sorted(pictures.PICTURES.glob("*.svg")) == sorted(DRAWN)
    assert [path.name for path in DRAWN if f"pictures/{path.name}" not in shown] == []


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_both_pictures_are_drawn_of_the_text(text: Path) -> None:
    """
    `make pictures` draws those anew whose text has changed.
    """
    assert pictures.stale(text) == []


def test_a_changed_text_makes_its_pictures_stale(tmp_path: Path) -> None:
    """
    A missing picture, and one of an earlier text.
    """
    text = tmp_path / "a.mmd"
    text.write_text("flowchart LR\n")
    light, dark = pictures.drawn(text).values()
    light.write_text(pictures.mark(text))
    assert pictures.stale(text) == [dark]

    text.write_text("flowchart TB\n")
    assert pictures.stale(text) == [light, dark]


@pytest.mark.parametrize("picture", DRAWN, ids=lambda picture: picture.stem)
def test_each_picture_has_a_title_and_its_labels_as_text(picture: Path) -> None:
    """
    A screen reader finds title and description; a search finds every word of the text's labels.
    """
    text = picture.with_name(f"{picture.stem.rpartition('-')[0]}.mmd").read_text()
    root = ET.fromstring(picture.read_text())
    named = {each.get("id"): each.text for each in root if each.tag in (f"{pictures.SVG}title", f"{pictures.SVG}desc")}
    [title] = re.findall(r"accTitle: (.*)", text)
    [description] = re.findall(r"accDescr: (.*)", text)

    assert (root.get("role") or "").startswith("graphics-document")
    assert named[root.get("aria-labelledby")] == title
    assert named[root.get("aria-describedby")] == description
    assert len(pictures.labels(text)) >= 8
    assert pictures.labels(text) - pictures.shown(picture.read_text()) == set()


@pytest.mark.parametrize("picture", DRAWN, ids=lambda picture: picture.stem)
def test_no_picture_runs_or_loads_anything(picture: Path) -> None:
    """
    Neither scripts nor HTML within it, nor files of other places; a ground hides the page behind it.
    """
    theme = picture.stem.rpartition("-")[2]
    root = ET.fromstring(picture.read_text())
    ground = next(each for each in root if each.tag not in (f"{pictures.SVG}title", f"{pictures.SVG}desc"))

    assert ACTIVE.findall(picture.read_text()) == []
    assert ground.get("fill") == pictures.THEMES[theme]["background"]
    assert [ground.get(name) for name in ("x", "y", "width", "height")] == (root.get("viewBox") or "").split()


@pytest.mark.parametrize(
    "part",
    [
        "<script>1</script>",
        "<foreignObject/>",
        '<image href="https://a.test/b.png"/>',
        '<rect onclick="a()"/>',
        "<style>@import 'https://a.test/b.css'</style>",
        '<rect fill="url(https://a.test/b)"/>',
    ],
)
def test_an_active_part_is_found(part: str) -> None:
    """
    References within the picture are none.
    """
    assert ACTIVE.search(f'<svg><path marker-end="url(#end)"/>{part}</svg>')
    assert not ACTIVE.search('<svg><path marker-end="url(#end)"/></svg>')


def test_the_picture_of_the_storeys_is_the_contract_about_imports() -> None:
    """
    Each storey once, from the top down.
    """
    [contract] = [
        one
        for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if one["name"] == "Imports point down"
    ]
    storeys = [re.findall(r"\w+", layer) for layer in contract["layers"]]
    place = {name: number for number, names in enumerate(storeys) for name in names}
    boxes = re.findall(r'\["([^"]*)"\]', (pictures.PICTURES / "storeys.mmd").read_text())
    shown = [re.split(r", ", box.rpartition(": ")[2]) for box in boxes]
    names = [name for box in shown for name in box]

    assert sorted(names) == sorted(set(place) - {"__main__", "mypy"})
    for upper, lower in pairwise(shown):
        assert max(place[name] for name in upper) < min(place[name] for name in lower)
