"""A result as Markdown, for the terminal and for tune.md; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.report.wording import change, number, points, probability
from ropewalk.stats.findings.finding import share
from ropewalk.stats.intervals import Interval
from ropewalk.tuning.draws import WHOLE
from ropewalk.tuning.markdown import aligned

Result = Mapping[str, Any]


def lines(found: Result) -> list[str]:
    """The verdict first, then its table, the seeds, and what it was tuned on."""
    return [headline(found), "", *aligned(_table(found)), "", *(f"- {each}" for each in facts(found))]


def _table(found: Result) -> list[list[str]]:
    """The judged numbers as text, names of columns first; kinds of prompts beside the first have columns behind."""
    names, *body = _rows(found)
    for prompts, each in list(found["judge"]["retrieval"].items())[1:]:
        names += [f"{prompts} {n}" for n in each["against_most"]]
        for row, own in zip(body, each["rows"].values(), strict=True):
            row += [share(found) for found in own.values()]
    return [names, *body]


def _rows(found: Result) -> list[list[str]]:
    """The judged numbers as text, names of columns first."""
    rows = found["judge"]["rows"]
    lengths = list(rows[0]["perplexity"])
    counted = found["judge"]["counted"] or {"name": "", "title": ""}
    keys = list(rows[0].get(counted["name"], ()))
    names = ["judge set", *(f"ppl {n}" for n in lengths), "beyond window", *(f"{counted['title']} {n}" for n in keys)]
    body = [
        [
            row["label"],
            *(number(row["perplexity"][n]) for n in lengths),
            number(row["beyond"]),
            *(share(row[counted["name"]][n]) for n in keys),
        ]
        for row in rows
    ]
    return [names, *body]


def headline(found: Result) -> str:
    """Whether what was tuned beats the best named method and `truncate` on the judge's documents."""
    judge = found["judge"]
    parts = []
    for label, why in ((judge["best_named"], ", the best named method of the tuning set"), ("truncate", "")):
        ratio = judge["against"][label]["beyond"]
        parts.append(f"{_change(ratio)} against {label}{why} ({_told(ratio)})")
    count, near = judge["against"]["truncate"]["beyond"]["n"], found["winner"]["near"]
    where = "" if near is None else f" of tokens at least {near} away"
    return (
        f"The tuned scheme {found['winner']['fingerprint']} ({found['what']}{where}) changes perplexity between "
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
        *(f"{label} has no losses on the tuning set and is not judged: {why}." for label, why in left_out(found)),
        sides(found),
    ]


def left_out(found: Result) -> list[tuple[str, str]]:
    """Configurations that were not judged, and why."""
    return [(label, why.rstrip(".")) for label, why in found["left_out"].items()]


def comparisons(found: Result) -> list[str]:
    """The winner against the best named method, the one with the best retrieval, and none."""
    judge = found["judge"]
    other, keeper = judge["best_named"], judge["best_retrieval"]
    said = []
    for label in dict.fromkeys((other, "none")):
        each = judge["against"][label]
        parts = [f"{_change(ratio)} at {n}" for n, ratio in each["perplexity"].items()]
        said.append(f"perplexity against {label}: {', '.join(parts)}.")
    if keeper is not None:
        counted = judge["counted"]
        pairs = judge["against"][keeper][counted["name"]]
        parts = [f"{points(each['value'])} at {n} (p {probability(each['p'])})" for n, each in pairs.items()]
        said.append(
            f"{counted['items']} found against {keeper}, the named method best at the probes: {', '.join(parts)}; "
            f"exact McNemar over {next(iter(pairs.values()))['n']} trials a length."
        )
    return said


def optimism(found: Result) -> str:
    """How much the tuning set flattered."""
    each = found["optimism"]
    return (
        f"optimism: the ratio of perplexities was {each['search']:.4f} on the tuning set and is {each['judge']:.4f} on "
        f"the judge's, {each['optimism_nats']:+.4f} nats."
    )


def retrieval(found: Result) -> list[str]:
    """What was found of each kind of prompts, against the named method that found most at each length."""
    said, counted = list[str](), found["judge"]["counted"]
    if counted is None:
        return ["nothing kept or judged what is found in the context: no metric of the file gives prompts."]
    for prompts, each in found["judge"]["retrieval"].items():
        parts = [
            f"{points(own['value'])} at {n} (p {probability(own['p'])}, {own['label']})"
            for n, own in each["against_most"].items()
        ]
        said.append(
            f"{counted['items']} in {prompts} against the named method that found most of them there: "
            f"{', '.join(parts)}."
        )
    return said


def promise(found: Result) -> str:
    """What the window pays, and whether that is within the bound."""
    cost = found["short_cost"]
    paid = ", ".join(f"{_change(ratio)} at {n}" for n, ratio in cost["perplexity"].items()) or "not asked at any length"
    if cost["bound"] is None:
        return f"inside the window, against the unscaled model: {paid}."
    told = {None: "not judged: give a length inside the window", True: "kept", False: "broken"}[cost["kept"]]
    if cost["established"] is not None:
        told += " (established)" if cost["established"] else " (not established)"
    return f"inside the window, against the unscaled model: {paid}; max_short_cost {100 * cost['bound']:g} % is {told}."


def seeds(found: Result) -> list[str]:
    """Every seed's steps, time, and what is remarkable of it; how far apart they are."""
    said: list[str] = []
    fed = f" (one in {WHOLE} is fed all of its text, the others pieces)" if found["pieces"] else ""
    for each in found["seeds"]:
        gain = "" if each["largest_gain"] is None else f", gains up to {each['largest_gain']:.3f}"
        said.append(
            f"{each['label']}: {each['steps']} steps{fed} from {found['start']} in {each['wall_s']:.0f} s, objective "
            f"{each['objective']:.4f} on the tuning set, A {each['attention_factor']:.4f}{gain}"
            f"{'; ' + each['stopped'] if each['stopped'] else ''}."
        )
        if each["unordered"]:
            said.append(f"{each['label']} may not come out the same to the bit again: {each['unordered']}.")
    if found["spread"] is None:
        return said
    alone = [f"{label}: {_alone(found, each)}." for label, each in found["judge"]["seeds"].items()]
    return [*said, *alone, _spread(found["spread"], len(found["seeds"]))]


def _alone(found: Result, against: Mapping[str, Any]) -> str:
    """One descent before the judge, had it been the only one."""
    beyond = [
        f"{_change(against[label]['beyond'])} against {label}" for label in (found["judge"]["best_named"], "truncate")
    ]
    ratios = against["none"]["perplexity"]
    inside = [f"{_change(ratio)} at {n}" for n, ratio in ratios.items() if int(n) <= found["window"]]
    paid = f"; against the unscaled model {', '.join(inside)}" if inside else ""
    return f"beyond the window {' and '.join(beyond)}{paid}"


def _spread(each: Mapping[str, Any], count: int) -> str:
    return (
        f"of {count} descents {each['worst']} has {_change(each['beyond'])} perplexity beyond the window against "
        f"{each['best']}, the two furthest apart, on {each['beyond']['n']} documents of the judge."
    )


def sides(found: Result) -> str:
    """Who saw what."""
    split = found["split"]
    return f"tuned on {', '.join(split['search'])}; judged on {', '.join(split['judge'])}."


def _change(ratio: Mapping[str, Any]) -> str:
    return change(Interval(value=ratio["value"], low=ratio["low"], high=ratio["high"], n=ratio["n"]))
