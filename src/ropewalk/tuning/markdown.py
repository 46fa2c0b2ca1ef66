"""Markdown: tables that line up, texts of others shown literally; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk.errors import visible


def escaped(value: Any) -> Any:
    """A result in which every text, of keys too, is one that Markdown shows literally; names of ours are that."""
    if isinstance(value, str):
        text = visible(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return re.sub(r"([\\`*\[\]|#~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)
    if isinstance(value, Mapping):
        return {escaped(key): escaped(each) for key, each in value.items()}
    return [escaped(each) for each in value] if isinstance(value, (list, tuple)) else value


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text, names first, as a Markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["| " + " | ".join(text.ljust(widths[i]) for i, text in enumerate(row)) + " |" for row in ruled]
