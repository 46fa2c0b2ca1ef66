"""The documentation site: every page can be reached, and every entry leads to a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ropewalk.metrics import perplexity
from ropewalk.stats import effective

ROOT = Path(__file__).parents[1]


def listed(entries: Any) -> Iterator[str]:
    """Pages of a navigation, in its order."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
            continue
        for value in entry.values():
            yield from [value] if isinstance(value, str) else listed(value)


def test_ten_words_of_a_report_are_explained_and_lead_there():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("## Words of the code")[0]
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (.+) \|$", text, re.MULTILINE))
    rows.pop("word")
    assert len(rows) == 10
    assert "last min(512, length / 4)" in rows["tail"]
    assert [perplexity.tail_tokens(length) for length in (1024, 8192)] == [min(512, 1024 // 4), 512]
    assert "half window. Half, as" in rows["truncate"]
    assert f"{100 * effective.TOLERANCE:.0f} % above" in rows["effective length"]
    assert "four of five" in rows["effective length"]
    assert effective.THRESHOLD == 4 / 5
    assert "held-out" in rows["optimism"]


def links(page: Path) -> Iterator[Path]:
    """What a page links to in this repository."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            yield (page.parent / target).resolve()


def test_every_link_of_the_readme_and_the_front_page_leads_somewhere():
    pages = ROOT / "README.md", ROOT / "docs" / "index.md"
    assert [str(link) for page in pages for link in links(page) if not link.exists()] == []
    assert all((ROOT / "docs" / "glossary.md") in links(page) for page in pages)


def test_the_navigation_lists_every_page_once():
    pages = list(listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert sorted(pages) == sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
