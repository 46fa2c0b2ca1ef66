"""A result as Markdown, for the terminal and for tune.md; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk.searching.lines import aligned, change, comparisons, optimism, sides, table

Result = Mapping[str, Any]


def lines(found: Result) -> list[str]:
    """The verdict first, then its table, the seeds, and what it was tuned on."""
    return [headline(found), "", *aligned(_table(found)), "", *(f"- {each}" for each in facts(found))]


def _table(found: Result) -> list[list[str]]:
    """The judged numbers as text, names of columns first; kinds of prompts beside the first have columns behind."""
    names, *body = table(found)
    for prompts, each in list(found["judge"]["retrieval"].items())[1:]:
        names += [f"{prompts} {n}" for n in each["against_most"]]
        for row, own in zip(body, each["rows"].values(), strict=True):
            row += [f"{share:.2g}" for share in own.values()]
    return [names, *body]


def headline(found: Result) -> str:
    """Whether what was tuned beats the best named method and `truncate` on the judge's documents."""
    judge = found["judge"]
    parts = []
    for label, why in ((judge["best_named"], ", the best named method of the tuning set"), ("truncate", "")):
        ratio = judge["against"][label]["beyond"]
        parts.append(f"{change(ratio)} against {label}{why} ({_told(ratio)})")
    count = judge["against"]["truncate"]["beyond"]["n"]
    return (
        f"The tuned scheme {found['winner']['fingerprint']} ({found['what']}) changes perplexity between "
        f"{found['window']} and {found['length']} tokens by {' and '.join(parts)}, on {count} documents that tuning "
        "never saw."
    )


def _told(ratio: Mapping[str, Any]) -> str:
    sure = ratio["high"] is not None and (ratio["high"] < 1 or ratio["low"] > 1)
    return "established" if sure else "not established"


def facts(found: Result) -> list[str]:
    """All that is said beside the headline and the table, a sentence or two each."""
    return [
        *comparisons(found),
        *retrieval(found),
        promise(found),
        optimism(found),
        *seeds(found),
        sides(found, "tuned"),
    ]


def retrieval(found: Result) -> list[str]:
    """What was found of each kind of prompts, against the named method that found most at each length."""
    said = []
    for prompts, each in found["judge"]["retrieval"].items():
        parts = [
            f"{100 * own['value']:+.0f} points at {n} (p {own['p']:.2g}, {own['label']})"
            for n, own in each["against_most"].items()
        ]
        said.append(
            f"passkeys in {prompts} against the named method that found most of them there: {', '.join(parts)}."
        )
    return said


def promise(found: Result) -> str:
    """What the window pays, and whether that is within the bound."""
    cost = found["short_cost"]
    paid = ", ".join(f"{change(ratio)} at {n}" for n, ratio in cost["perplexity"].items()) or "not asked at any length"
    if cost["bound"] is None:
        return f"inside the window, against the unscaled model: {paid}."
    told = {None: "not judged: give a length inside the window", True: "kept", False: "broken"}[cost["kept"]]
    return f"inside the window, against the unscaled model: {paid}; max_short_cost {100 * cost['bound']:g} % is {told}."


def seeds(found: Result) -> list[str]:
    """Every seed's steps, time, and what is remarkable of it; how far apart they are."""
    said: list[str] = []
    for each in found["seeds"]:
        gain = "" if each["largest_gain"] is None else f", gains up to {each['largest_gain']:.3f}"
        said.append(
            f"{each['label']}: {each['steps']} steps from {found['start']} in {each['wall_s']:.0f} s, objective "
            f"{each['objective']:.4f} on the tuning set, A {each['attention_factor']:.4f}{gain}"
            f"{'; ' + each['stopped'] if each['stopped'] else ''}."
        )
    return said if found["spread"] is None else [*said, _spread(found["spread"], len(found["seeds"]))]


def _spread(each: Mapping[str, Any], count: int) -> str:
    return (
        f"of {count} seeds {each['worst']} has {change(each['beyond'])} perplexity beyond the window against "
        f"{each['best']}, the two furthest apart, on {each['beyond']['n']} documents of the judge."
    )


__all__: Sequence[str] = ("lines",)
