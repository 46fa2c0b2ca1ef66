"""A result as Markdown, for the terminal and for search.md; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ropewalk.errors import visible

Result = Mapping[str, Any]


def lines(found: Result) -> list[str]:
    """The verdict first, then its table, the repeats, and what it was searched on."""
    return [headline(found), "", *aligned(table(found)), "", *(f"- {each}" for each in facts(found))]


def escaped(value: Any) -> Any:
    """A result in which every text, of keys too, is one that Markdown shows literally; names of ours are that."""
    if isinstance(value, str):
        text = visible(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return re.sub(r"([\\`*\[\]|#~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)
    if isinstance(value, Mapping):
        return {escaped(key): escaped(each) for key, each in value.items()}
    return [escaped(each) for each in value] if isinstance(value, (list, tuple)) else value


def facts(found: Result) -> list[str]:
    """All that is said beside the headline and the table, a sentence or two each."""
    return [*comparisons(found), optimism(found), *_repeats(found), spent(found), sides(found)]


def headline(found: Result) -> str:
    """Whether the winner beats the best named method on the judge's documents."""
    other = found["judge"]["best_named"]
    ratio = found["judge"]["against"][other]["beyond"]
    sure = ratio["high"] is not None and (ratio["high"] < 1 or ratio["low"] > 1)
    told = "established" if sure else "not established"
    kept = f" It is {found['winner']['named']} itself: nothing better was found." if found["winner"]["named"] else ""
    return (
        f"The searched rotation {found['winner']['fingerprint']} has {change(ratio)} perplexity between "
        f"{found['window']} and {found['length']} tokens against {other}, the best named method of the search, on "
        f"{ratio['n']} documents that the search never saw: {told}.{kept}"
    )


def table(found: Result) -> list[list[str]]:
    """The judged numbers as text, names of columns first."""
    rows = found["judge"]["rows"]
    lengths = list(rows[0]["perplexity"])
    counted = found["judge"]["counted"] or {"name": "", "title": ""}
    keys = list(rows[0].get(counted["name"], ()))
    beyond = ["beyond window"] + ["key tokens"] * (rows[0]["keys"] is not None)
    names = ["judge set", *(f"ppl {n}" for n in lengths), *beyond, *(f"{counted['title']} {n}" for n in keys)]
    body = [
        [
            row["label"],
            *(f"{row['perplexity'][n]:.4g}" for n in lengths),
            *(f"{row[name]:.4g}" for name in ("beyond", "keys") if row[name] is not None),
            *(f"{row[counted['name']][n]:.2g}" for n in keys),
        ]
        for row in rows
    ]
    return [names, *body]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text, names first, as a Markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["| " + " | ".join(text.ljust(widths[i]) for i, text in enumerate(row)) + " |" for row in ruled]


def comparisons(found: Result) -> list[str]:
    """The winner against the best named method, the one with the best retrieval, and none."""
    judge = found["judge"]
    other, keeper = judge["best_named"], judge["best_retrieval"]
    said = []
    for label in dict.fromkeys((other, "none")):
        each = judge["against"][label]
        parts = [f"{change(ratio)} at {n}" for n, ratio in each["perplexity"].items()]
        if each["keys"] is not None:
            parts.append(f"{change(each['keys'])} on key tokens beyond the window")
        said.append(f"perplexity against {label}: {', '.join(parts)}.")
    if keeper is not None:
        counted = judge["counted"]
        pairs = judge["against"][keeper][counted["name"]]
        parts = [f"{100 * each['value']:+.0f} points at {n} (p {each['p']:.2g})" for n, each in pairs.items()]
        said.append(
            f"{counted['items']} found against {keeper}, the named method best at the probes: {', '.join(parts)}; "
            f"exact McNemar over {next(iter(pairs.values()))['n']} trials a length."
        )
    return said


def optimism(found: Result) -> str:
    """How much the search flattered itself."""
    each = found["optimism"]
    return (
        f"optimism: the ratio of perplexities was {each['search']:.4f} on the search set and is {each['judge']:.4f} on "
        f"the judge's, {each['optimism_nats']:+.4f} nats."
    )


def _repeats(found: Result) -> list[str]:
    said = [
        f"{each['label']}: objective {each['objective']:.4f} after {each['evaluations']} candidates, A "
        f"{each['attention_factor']:.4f}, ln lambda at most {each['apart']:.3f} from the winner's"
        f"{'.' if each['moved'] else '; no candidate was better than its start.'}"
        for each in found["repeats"]
    ]
    return said if found["agreement"] is None else [*said, agreement(found["agreement"])]


def agreement(each: Mapping[str, Any]) -> str:
    """Whether different seeds found the same rotation."""
    seeds, moved = each["seeds"], each["moved"]
    if moved == 0:
        return f"none of {seeds} seeds found anything better than its start: they say nothing about each other."
    head = f"{seeds} seeds ended at {_count(each['rotations'], 'rotation')}"
    stayed = "" if moved == seeds else f", {seeds - moved} of them at the start"
    if each["rotations"] == 1:
        return f"{head}{stayed}: they found the same."
    return (
        f"{head}{stayed}: ln lambda up to {each['apart']:.3f} apart, ln A up to {each['apart_attention']:.3f}; beyond "
        f"the window {each['worst']} has {change(each['beyond'])} perplexity against {each['best']}, the two furthest "
        f"apart, on {each['beyond']['n']} documents of the judge."
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def spent(found: Result) -> str:
    """Candidates, time, and what racing spared."""
    count, probes = sum(found["evaluations"].values()), found["saving_probes"]
    also = "" if probes is None else f" and {100 * probes:.0f} % of their probes"
    return (
        f"{count} candidates, {found['evaluations']['named']} of them named methods, in {found['wall_s']:.0f} s of "
        f"searching; racing spared {100 * found['saving']:.0f} % of their passes over documents{also}."
    )


def sides(found: Result, verb: str = "searched") -> str:
    """Who saw what."""
    split = found["split"]
    return f"{verb} on {', '.join(split['search'])}; judged on {', '.join(split['judge'])}."


def change(ratio: Mapping[str, Any]) -> str:
    """A ratio of perplexities with its interval, as a change."""
    text = f"{100 * (ratio['value'] - 1):+.1f} %"
    if ratio["low"] is None:
        return text
    return f"{text} [{100 * (ratio['low'] - 1):+.1f}, {100 * (ratio['high'] - 1):+.1f}]"
