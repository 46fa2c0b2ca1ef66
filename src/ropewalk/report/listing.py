"""What a section of a report is made of; pure."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.report.figures import Figure
from ropewalk.report.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A table under its heading; `folded` where the page shows it only when asked."""

    title: str
    table: Table
    folded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with what stands under it, in this order: lead, figures, tables, code."""

    anchor: str
    title: str
    lead: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Listing, ...] = ()
    code: str = ""
