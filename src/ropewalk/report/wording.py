"""How numbers and answers read; the only place that rounds."""

from __future__ import annotations

import math

from ropewalk.report.recommend import Candidate, Recommendation
from ropewalk.stats.best import ASSUMING
from ropewalk.stats.findings.finding import listed, percent, shown
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import NONE

MISSING = "–"
TITLES = {
    "perplexity": "perplexity",
    "tail": "tail perplexity",
    "bits_per_byte": "bits per byte",
    "longppl": "LongPPL",
    "passkey": "passkey",
}


def number(value: float | None) -> str:
    """Four significant digits; a dash where there is no number."""
    if value is None or math.isnan(value):
        return MISSING
    return "infinite" if math.isinf(value) else f"{value:.4g}" if abs(value) < 1e5 else f"{value:.2e}"


def measure(metric: str, interval: Interval) -> str:
    """A value with its 95 % interval: `12.31 [11.2, 13.5]`; without one, the value alone."""
    low, high = interval.low, interval.high
    value = _scaled(metric, interval.value)
    if low is None or high is None or not math.isfinite(high):
        return value
    return f"{value} [{_scaled(metric, low)}, {_scaled(metric, high)}]"


def _scaled(metric: str, value: float) -> str:
    return shown(metric, value) if metric == "passkey" else number(value)


def change(interval: Interval) -> str:
    """A ratio of perplexities as a change with its interval: `-3.0 % [-4.1 %, -1.9 %]`."""
    if not math.isfinite(interval.value):
        return "infinitely worse"
    if interval.low is None or interval.high is None or not math.isfinite(interval.high):
        return percent(interval.value)
    if interval.low == interval.high == 1:
        return "identical"
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


def apart(metric: str, interval: Interval) -> str:
    """A paired comparison in the unit of its metric: change of a perplexity, difference of bits or of shares."""
    if metric in ("perplexity", "tail", "longppl"):
        return change(interval)
    scale, unit = (100.0, " points") if metric == "passkey" else (1.0, "")
    ends = ""
    if interval.low is not None and interval.high is not None:
        ends = f" [{scale * interval.low:+.3g}, {scale * interval.high:+.3g}]"
    return f"{scale * interval.value:+.3g}{ends}{unit}"


def probability(p: float | None) -> str:
    """A p value; a dash where there is no test."""
    return MISSING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def units(metric: str, n: int) -> str:
    """`8 documents`, `1 trial`."""
    return f"{n} {'trial' if metric == 'passkey' else 'document'}{'s' * (n != 1)}"


def headline(answer: Recommendation) -> str:
    """The answer in a sentence, and why it was preferred to what its metric could not tell from it."""
    choice, tied, target = answer.choice, [c.label for c in answer.tied], f"{answer.target:,}"
    if answer.best.distinct < 2 and not tied and not answer.outdone:
        return f"Nothing to choose between at {answer.judged_at:,} tokens: only {choice.label} can be compared."
    over = preferred(answer)
    if choice.label == NONE:
        return f"For {target} tokens, leave the model as it is{f', {over}' if over else ''}."
    if NONE in tied:
        return f"For {target} tokens, nothing is shown to beat leaving the model as it is."
    ties = len(answer.tied) - len(answer.same)
    beside = [f"tied with {ties} other{'s' * (ties > 1)}"] if ties else []
    leader = f"{choice.label}, {' and '.join([*beside, *([over] if over else [])])}," if ties or over else choice.label
    if answer.dropping == "worse":
        return f"For {target} tokens, {leader} does best, but worse than dropping the context."
    if answer.dropping == "unknown":
        return f"For {target} tokens, {leader} does best, but is not shown to beat dropping the context."
    tail = f", {over}" if over else ""
    return f"For {target} tokens, use {choice.label}{f' or one of {ties} tied with it' if ties else ''}{tail}."


def preferred(answer: Recommendation) -> str:
    """What passkeys decided: `chosen over llama3 factor=4 for its passkeys (100 % against 45 %)`; empty if nothing."""
    if not answer.outdone or answer.choice.passkey is None:
        return ""
    (first, _), *rest = answer.outdone
    assert first.passkey is not None
    own, other = (shown("passkey", c.passkey.value) for c in (answer.choice, first) if c.passkey is not None)
    more = f" and {len(rest)} more" if rest else ""
    return f"chosen over {first.label}{more} for its passkeys ({own} against {other})"


def confidence(answer: Recommendation) -> str:
    """How sure the choice is."""
    best, tied = answer.best, [c.label for c in answer.tied if c.label not in answer.same]
    others = len(best.members) + len(best.excluded) - 1
    if best.distinct < 2 and not tied and not answer.outdone:
        return "There is nothing to compare it with."
    if best.n == 1 and answer.metric != "passkey":
        return f"Unknown: with {units(answer.metric, 1)} no test is possible."
    said = list[str]()
    if tied:
        said.append(
            f"Not certain: {len(tied)} of {others} other{'s' * (others > 1)} cannot be told apart from it with "
            f"{units(answer.metric, best.n)} ({listed(tied)})."
        )
    elif best.excluded:
        many = len(best.excluded) > 1
        rest = f"Each of the {len(best.excluded)} others" if many else f"The other, {best.excluded[0][0]},"
        said.append(f"{rest} is worse, at most 5 % chance of any error, {ASSUMING} ({units(answer.metric, best.n)}).")
    if answer.outdone:
        names, worst = [c.label for c, _ in answer.outdone], probability(max(p for _, p in answer.outdone))
        one = len(names) == 1
        said.append(
            f"{listed(names)} {'is' if one else 'are'} not told apart in {TITLES[answer.metric]}, and "
            f"{'finds' if one else 'find'} fewer passkeys, p {worst if worst.startswith('<') else f'= {worst}'} "
            "(exact McNemar, Holm)."
        )
    if answer.same:
        said.append(f"{listed(answer.same)} {'is' if len(answer.same) == 1 else 'are'} the same measurement.")
    return " ".join(said)


def cost(candidate: Candidate) -> str:
    """The cost at short lengths in a phrase; a dash where it is unknown."""
    if candidate.label == NONE:
        return "nothing"
    if candidate.cost is None:
        return MISSING
    if candidate.cost.ratio.low == candidate.cost.ratio.high == 1:
        return f"nothing, the same {TITLES[candidate.cost.metric]} as unscaled"
    return f"{change(candidate.cost.ratio)} {TITLES[candidate.cost.metric]}, at worst, at {candidate.cost.length:,}"


_SHOWN = {"better": "", "worse": ": worse", "unknown": ": not shown to be better", None: ""}


def facts(answer: Recommendation) -> dict[str, str]:
    """What supports the answer, term by term."""
    choice, metric = answer.choice, answer.metric
    found = {
        f"{TITLES[metric].capitalize()} at {answer.judged_at:,}": f"{measure(metric, choice.value)} "
        f"({units(metric, choice.value.n)})"
    }
    if choice.against_none is not None:
        found["Against the unscaled model"] = apart(metric, choice.against_none.interval)
    if choice.against_truncate is not None:
        found["Against dropping the context"] = change(choice.against_truncate.interval) + _SHOWN[answer.dropping]
    found["Cost at short lengths"] = cost(choice) if not answer.no_cost else f"unknown: {answer.no_cost}"
    if choice.passkey is not None and metric != "passkey":
        found[f"Passkeys found at {answer.judged_at:,}"] = (
            f"{measure('passkey', choice.passkey)} ({units('passkey', choice.passkey.n)})"
        )
    return found


def would_change(answer: Recommendation) -> list[str]:
    """What would make the answer another one."""
    choice, said = answer.choice, list[str]()
    if answer.judged_at != answer.target:
        said.append(
            f"{answer.target:,} tokens were not measured; the next longer length, {answer.judged_at:,}, decided."
        )
    cheaper = [c for c in answer.tied if c.cost and choice.cost and c.cost.ratio.value < choice.cost.ratio.value]
    if cheaper:
        best = min(cheaper, key=lambda c: c.cost.ratio.value if c.cost else math.inf)
        said.append(
            f"If cost at short lengths decides among the tied: {best.label} ({cost(best)}; "
            f"{TITLES[answer.metric]} {measure(answer.metric, best.value)})."
        )
    finders = [c for c in answer.tied if c.passkey and choice.passkey and c.passkey.value > choice.passkey.value]
    if finders and answer.metric != "passkey":
        best = max(finders, key=lambda c: c.passkey.value if c.passkey else 0.0)
        assert best.passkey is not None
        said.append(f"If retrieval decides: {best.label} finds {measure('passkey', best.passkey)} of passkeys.")
    if answer.too_costly:
        named = ", ".join(f"{c.label} ({cost(c)})" for c in answer.too_costly[:3])
        said.append(
            f"A larger bound than {answer.bound_percent:g} % at short lengths, or more documents, would allow {named}."
        )
    if answer.too_few_found:
        named = ", ".join(
            f"{c.label} ({measure('passkey', c.passkey) if c.passkey else MISSING})" for c in answer.too_few_found[:3]
        )
        said.append(f"Fewer passkeys than {100 * (answer.min_passkey or 0):g} % would allow {named}.")
    if answer.outdone:
        best = answer.outdone[0][0]
        said.append(
            f"If {TITLES[answer.metric]} alone decides (--by perplexity): {best.label} "
            f"({measure(answer.metric, best.value)})."
        )
    if answer.rotates:
        said.append(
            f"{choice.label} turns differently at every length, and its costs hold where the engine follows; an "
            "exported fixed rotation was not measured at the other lengths."
        )
    if len(answer.tied) > len(answer.same) or answer.best.n == 1:
        said.append(f"More {'trials' if answer.metric == 'passkey' else 'documents'} may separate those that tie.")
    return said
