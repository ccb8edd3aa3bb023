"""
The pictures of the pages: texts (Mermaid) that are drawn once, light and dark, and committed beside the text.

``python -m tests.support.pictures`` draws the pictures whose text has changed, where npm and Chromium are.
"""

from __future__ import annotations

import hashlib
import html
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support import browser as browsers

VERSION: Final = "11.17.2"
ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = ROOT / "docs" / "pictures"
FOLDER: Final = ROOT / ".cache" / f"mermaid-{VERSION}"
SCRIPT: Final = FOLDER / "node_modules" / "mermaid" / "dist" / "mermaid.min.js"
SVG: Final = "{http://www.w3.org/2000/svg}"

_LIGHT: Final[dict[str, str | bool]] = {
    "background": "#ffffff",
    "primaryColor": "#eaf1fb",
    "primaryTextColor": "#17212e",
    "primaryBorderColor": "#4a76b0",
    "lineColor": "#48566a",
    "textColor": "#17212e",
    "noteBkgColor": "#fdf4d7",
    "noteTextColor": "#17212e",
    "noteBorderColor": "#b49434",
    "edgeLabelBackground": "#ffffff",
    "labelBackgroundColor": "#ffffff",
}
_DARK: Final[dict[str, str | bool]] = {
    "background": "#131416",
    "primaryColor": "#22344d",
    "primaryTextColor": "#e6ebf2",
    "primaryBorderColor": "#7ba5de",
    "lineColor": "#aab6c6",
    "textColor": "#e6ebf2",
    "noteBkgColor": "#40371a",
    "noteTextColor": "#f3e9c8",
    "noteBorderColor": "#c2a549",
    "edgeLabelBackground": "#131416",
    "labelBackgroundColor": "#131416",
    "darkMode": True,
}
THEMES: Final = {"light": _LIGHT, "dark": _DARK}

_DRAW: Final = """
const [name, text, variables, done] = arguments;
const ground = variables.background;
const shared = {htmlLabels: false, useMaxWidth: true, nodeSpacing: 28, rankSpacing: 40, wrappingWidth: 400, padding: 12};
mermaid.initialize({
  startOnLoad: false, securityLevel: 'strict', theme: 'base', themeVariables: variables, deterministicIds: true,
  fontFamily: 'Arial, Helvetica, sans-serif', htmlLabels: false, flowchart: shared,
  state: {...shared, nodeSpacing: 76, rankSpacing: 64},
  sequence: {
    useMaxWidth: true, mirrorActors: false, width: 116, height: 44, actorMargin: 22, diagramMarginX: 12, messageMargin: 30,
    noteMargin: 8, actorFontSize: 15, messageFontSize: 14, noteFontSize: 14,
  },
  // A label hides the line behind it.
  themeCSS: `.edgeLabel rect, .edgeLabel .background, .labelBkg {fill: ${ground} !important; opacity: 1 !important;}
    .messageText {paint-order: stroke; stroke: ${ground} !important; stroke-width: 6px;}`,
});
mermaid.render(name, text).then(({svg}) => {
  const box = document.createElement('div');
  box.innerHTML = svg;
  const drawn = box.querySelector('svg');
  const [x, y, width, height] = drawn.getAttribute('viewBox').split(' ');
  const below = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
  for (const [key, value] of Object.entries({x, y, width, height, fill: ground})) below.setAttribute(key, value);
  drawn.insertBefore(below, [...drawn.children].find(one => !['title', 'desc'].includes(one.tagName)));
  drawn.setAttribute('width', Math.ceil(width));
  drawn.setAttribute('height', Math.ceil(height));
  drawn.removeAttribute('style');
  done({svg: new XMLSerializer().serializeToString(drawn)});
}, error => done({error: String(error)}));
"""


def texts() -> list[Path]:
    """
    The texts of all pictures.
    """
    return sorted(PICTURES.glob("*.mmd"))


def drawn(text: Path) -> dict[str, Path]:
    """
    Theme -> the picture of *text*.
    """
    return {theme: text.with_name(f"{text.stem}-{theme}.svg") for theme in THEMES}


def mark(text: Path) -> str:
    """
    The comment by which a picture names its text.
    """
    return f"<!-- SHA-256 of {text.name}: {hashlib.sha256(text.read_bytes()).hexdigest()} -->"


def stale(text: Path) -> list[Path]:
    """
    The pictures of *text* that are missing, or that were drawn of another text.
    """
    return [path for path in drawn(text).values() if not path.exists() or mark(text) not in path.read_text()]


def labels(text: str) -> set[str]:
    """
    The words that a reader of a picture sees, from its *text*: in quotation marks, after colons, and names of participants.
    """
    body = re.sub(r"\A---\n.*?^---$|^\s*acc(?:Title|Descr):[^\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r'"([^"]*)"|^\s*participant \w+ as (.*)$|^[^:"\n]*: (.*)$', body, re.MULTILINE)
    return {word for one in found for part in one for word in html.unescape(re.sub(r"<br/?>", " ", part)).split()}


def shown(picture: str) -> set[str]:
    """
    The words in the texts of a *picture*; a word may be drawn in several elements.
    """
    found: set[str] = set()
    for each in ET.fromstring(picture).iter(f"{SVG}text"):
        lines = [line for line in each.iter(f"{SVG}tspan") if "text-outer-tspan" in (line.get("class") or "")] or [each]
        for line in lines:
            found |= set("".join(line.itertext()).split())
    return found


def install() -> str | None:
    """
    Install mermaid if it is missing; returns the reason if that is not possible.
    """
    if SCRIPT.exists():
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(FOLDER), "--no-save", "--no-fund", "--no-audit", "--ignore-scripts"]
    command += ["--loglevel=error", "--fetch-retries=1", f"mermaid@{VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    shutil.rmtree(FOLDER, ignore_errors=True)
    return (done.stderr.strip().splitlines() or ["npm failed"])[-1]


def draw(window: Any, text: Path, theme: str) -> str:
    """
    Draw *text* in the page of *window*, where mermaid is loaded.

    Raises:
        ValueError: Mermaid refuses the text.
    """
    answer = window.execute_async_script(_DRAW, f"{text.stem}-{theme}", text.read_text(), THEMES[theme])
    if "error" in answer:
        raise ValueError(f"{text.name}: {answer['error']}")
    picture = str(answer["svg"])
    at = picture.index(">") + 1
    return f"{picture[:at]}\n{mark(text)}\n{picture[at:]}\n"


def main(names: Sequence[str]) -> str:
    """
    Draw the pictures whose text has changed, or those of the texts with *names*; returns what was done, in a sentence.
    """
    wanted = [text for text in texts() if text.stem in names or (not names and stale(text))]
    if not wanted:
        return "all pictures are of their texts"
    if (reason := install()) is not None:
        return f"no picture was drawn, because mermaid could not be installed: {reason}"
    if not browsers.is_installed():
        return "no picture was drawn, because Chromium is not here; `make browser` installs it"
    with tempfile.TemporaryDirectory() as folder, browsers.opened() as window:
        page = Path(folder) / "page.html"
        page.write_text(f'<!doctype html><meta charset="utf-8"><script src="{SCRIPT.as_uri()}"></script>')
        window.get(page.as_uri())
        window.set_script_timeout(60)
        for text in wanted:
            for theme, path in drawn(text).items():
                path.write_text(draw(window, text, theme))
    return f"drawn: {', '.join(text.stem for text in wanted)}"


if __name__ == "__main__":
    print(main(sys.argv[1:]))
