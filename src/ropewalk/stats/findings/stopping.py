"""What is said of a run that stopped by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.stats.best import ASSUMING
from ropewalk.stats.findings.finding import Finding, listed, share
from ropewalk.stats.measured import Measured

WHY = {
    "decided": "one configuration is left",
    "precision": "every interval is as precise as was asked for",
    "budget": "the budget is spent",
    "everything read": "everything is read",
}


def said_of(decided: Mapping[str, Any]) -> str:
    """Why such a run stopped, after how much, and who is left."""
    look, running, left = decided["look"], decided["running"], decided["left"]
    if look is None:
        return "Measuring is not over, and the first look not taken: nothing is judged."
    windows = f"{look['windows']} windows of " if look["windows"] > 1 else ""
    asked = decided.get("precision")
    short = ""
    if asked is not None and decided["why"] == "everything read" and len(running) > 1:
        short = (
            f" The documents at hand do not give the {asked:g} % that were asked for; ask for less, read more windows "
            "of each (documents.windows), or give more documents: ropewalk plan FILE --precision says how many."
        )
    state = "is not over" if decided["why"] is None else f"stopped because {WHY[decided['why']]}"
    return (
        f"Measuring {state}, after {windows}{look['units']} {decided['of']}; "
        f"{len(left)} configurations left on the way, in the running: {listed(running)}.{short}"
    )


def _unseen(decided: Mapping[str, Any]) -> str:
    """How often the documents of the first departure hold no failure that one in ten has; empty of prompts."""
    first = decided.get("first")
    if first is None or decided["of"] != "documents":
        return ""
    return f" (the first left after {first}, which hold no failure on one in ten in {share(0.9**first)} of runs)"


def stopped(run: Measured) -> list[Finding]:
    """That measuring stopped by itself, and what its best sets are held to."""
    decided = run.meta.get("decided")
    if decided is None or decided["look"] is None:
        return []
    share = decided["look"]["share"]
    return [
        Finding(
            kind="stopped",
            sentence=f"{said_of(decided)} Whoever is truly best leaves in at most 5 % of such runs, {ASSUMING}"
            f"{_unseen(decided)}; best sets are now held to {share:.3g} of that, as the rest was for the looks before.",
            evidence=dict(decided),
            severity="note",
        )
    ]
