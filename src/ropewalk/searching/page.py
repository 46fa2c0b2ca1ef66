"""A result as one page that needs nothing else: what search.md says, with charts that answer to the mouse; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from ropewalk import __version__
from ropewalk.report.marks import Spec, without_legends
from ropewalk.report.page import GLYPHS, bundle, colors, compact, environment, whole
from ropewalk.report.palette import Style
from ropewalk.report.theme import page_config
from ropewalk.searching.lines import facts, headline, table


def page(found: Mapping[str, Any], title: str, parts: Mapping[str, Spec], looks: Mapping[str, Style]) -> str:
    """The page. Every text is escaped by the template; JSON by `tojson`, which leaves no `<` in it.

    Args:
        found: the result.
        title: what was searched for.
        parts: charts by title.
        looks: how methods are drawn.
    """
    names, *rows = table(found)
    return (
        environment("ropewalk.searching")
        .get_template("page.html.j2")
        .render(
            title=title,
            version=__version__,
            headline=unbroken(headline(found)),
            names=names,
            rows=rows,
            facts=[unbroken(fact) for fact in facts(found)],
            charts=list(parts),
            keys=[(name, GLYPHS[style.shape]) for name, style in looks.items()],
            css=Markup((files("ropewalk.report") / "page.css").read_text(encoding="utf-8")),
            colors=Markup(colors(looks)),
            data={
                "config": page_config(looks),
                "methods": list(looks),
                "charts": [compact(without_legends(spec)) for spec in parts.values()],
            },
            bundle=Markup(bundle()),
        )
    )


def unbroken(text: str) -> str:
    """The text with numbers, their per cent signs and their intervals on one line each."""
    return re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", "\u00a0"), whole(text))
