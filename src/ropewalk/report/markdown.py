"""The report as Markdown, for pull requests and papers; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ropewalk.errors import visible
from ropewalk.report.content import Content, Section
from ropewalk.report.tables import Table, by_length, heading
from ropewalk.report.wording import confidence, deploying, facts, headline, would_change

LONG = 30
"""Rows from which a table is folded away."""


def markdown(report: Content, files: Sequence[str]) -> str:
    """The whole report; `files` are those written beside it."""
    missing = [f"**{plain(report.missing)}**"] if report.missing else []
    parts = [f"# {plain(report.title)}", *missing, *_answer(report), *_findings(report)]
    for section in report.sections:
        parts += _section(section, report)
    parts += ["## Files", *(f"- `{name}`" for name in files)]
    return "\n\n".join(_tight(parts)) + "\n"


def plain(text: str) -> str:
    """Text from models, files and YAML as Markdown shows it literally: no HTML, no markup, one line."""
    text = visible(re.sub(r"\s+", " ", text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)


def fence(text: str) -> str:
    """A code block that its text cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}\n{text}\n{marks}"


def _answer(report: Content) -> list[str]:
    answer = report.answer
    if answer is None:
        return ["## The answer", f"There is none: {plain(report.refusal)}"]
    lines = [f"- {plain(name)}: {plain(value)}" for name, value in facts(answer).items()]
    parts = ["## The answer", f"**{plain(headline(answer))}**", *lines, f"- Confidence: {plain(confidence(answer))}"]
    if report.commands:
        parts += [f"{plain(deploying(answer))}:", fence("\n".join(report.commands.values()))]
    changes = would_change(answer)
    return parts + (["What would change it:", *(f"- {plain(text)}" for text in changes)] if changes else [])


def _findings(report: Content) -> list[str]:
    if not report.findings:
        return []
    return ["## Before you trust it", *(f"- **{f.severity}**: {plain(f.sentence)}" for f in report.findings)]


def _section(section: Section, report: Content) -> Iterator[str]:
    yield f"## {section.title}"
    if section.lead:
        yield plain(section.lead)
    for figure in section.figures:
        if figure.spec is None:
            yield f"Not drawn: {plain(figure.missing)}."
        elif not figure.small:
            yield f"![{plain(figure.title)}](figures/{figure.name}.png)"
    if any(figure.small and figure.spec for figure in section.figures):
        yield f"![{section.title}](figures/{section.anchor}.png)"
    if section.anchor == "table":
        yield from _every_number(report)
    for listing in section.tables:
        yield from _titled(listing.title, listing.table)
    if section.code:
        yield fence(section.code)


def _every_number(report: Content) -> Iterator[str]:
    """The full table, one per metric that no section before has shown."""
    shown = {listing.title for section in report.sections for listing in section.tables}
    for column in report.study.run.columns.values():
        if heading(column) not in shown:
            yield from _titled(heading(column), by_length(report.study.run, column))
    yield "The other metrics stand above; `ropewalk results DIR --csv` prints all of them."


def _titled(title: str, table: Table) -> Iterator[str]:
    if not table.rows:
        yield f"{title}: none." if title else "None."
    elif len(table.rows) > LONG:
        yield f"<details><summary>{plain(title) or 'Table'} ({len(table.rows)} rows)</summary>"
        yield render(table)
        yield "</details>"
    else:
        if title:
            yield f"### {plain(title)}"
        yield render(table)


def render(table: Table) -> str:
    """A table; numbers to the right."""
    rule = ["---:" if name in table.numeric else "---" for name in table.columns]
    rows = [[plain(text) for text in row] for row in (table.columns, *table.rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def _tight(parts: Sequence[str]) -> list[str]:
    """Join neighbouring list items into one list."""
    found: list[str] = []
    for part in parts:
        if part.startswith("- ") and found and found[-1].startswith("- "):
            found[-1] += f"\n{part}"
        else:
            found.append(part)
    return found
