"""How numbers and answers read; the only place that rounds."""

from __future__ import annotations

import math

from ropewalk.report.recommend import LOSSES, Candidate, Recommendation
from ropewalk.stats.best import ASSUMING
from ropewalk.stats.column import Column
from ropewalk.stats.findings.finding import listed, percent, shown
from ropewalk.stats.findings.quality import Direction
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import NONE

MISSING = "–"


def number(value: float | None) -> str:
    """Four significant digits; a dash where there is no number."""
    if value is None or math.isnan(value):
        return MISSING
    return "infinite" if math.isinf(value) else f"{value:.4g}" if abs(value) < 1e5 else f"{value:.2e}"


def measure(column: Column, interval: Interval) -> str:
    """A value with its 95 % interval: `12.31 [11.2, 13.5]`; without one, the value alone."""
    low, high = interval.low, interval.high
    value = _scaled(column, interval.value)
    if low is None or high is None or not math.isfinite(high):
        return value
    return f"{value} [{_scaled(column, low)}, {_scaled(column, high)}]"


def _scaled(column: Column, value: float) -> str:
    return shown(column, value) if column.counts else number(value)


def change(interval: Interval) -> str:
    """A ratio of perplexities as a change with its interval: `-3.0 % [-4.1 %, -1.9 %]`."""
    if not math.isfinite(interval.value):
        return "infinitely worse"
    if interval.low is None or interval.high is None or not math.isfinite(interval.high):
        return percent(interval.value)
    if interval.low == interval.high == 1:
        return "identical"
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


def apart(column: Column, interval: Interval) -> str:
    """A paired comparison in the unit of its metric: change of a perplexity, difference of bits or of shares."""
    if column.is_ratio:
        return change(interval)
    if interval.low == interval.high == 0:
        return "identical"
    scale, unit = (100.0, " points") if column.counts else (1.0, "")
    ends = ""
    if interval.low is not None and interval.high is not None:
        ends = f" [{scale * interval.low:+.3g}, {scale * interval.high:+.3g}]"
    return f"{scale * interval.value:+.3g}{ends}{unit}"


def points(difference: float) -> str:
    """A difference of shares: `+12.5 points`."""
    return f"{100 * difference:+.3g} points"


def probability(p: float | None) -> str:
    """A p value; a dash where there is no test."""
    return MISSING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


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
    others = f" or {'the one' if ties == 1 else f'one of the {ties}'} tied with it" if ties else ""
    return f"For {target} tokens, use {choice.label}{others}{tail}."


def deploying(answer: Recommendation) -> str:
    """What stands over the commands that deploy a choice; where it may be no gain, that."""
    if answer.dropping in ("worse", "unknown") or NONE in (candidate.label for candidate in answer.tied):
        return f"To deploy {answer.choice.label} all the same"
    return "Deploy it"


def preferred(answer: Recommendation) -> str:
    """What answers decided: `chosen over llama3 factor=4 for its answers (100 % against 45 %)`; empty if nothing."""
    column = answer.second
    if not answer.outdone or column is None:
        return ""
    (first, _), *rest = answer.outdone
    own, other = (shown(column, c.found.value) for c in (answer.choice, first) if c.found is not None)
    more = f" and {len(rest)} more" if rest else ""
    unit = "" if column.counts else f" {column.title}"
    return f"chosen over {first.label}{more} for its {column.items} ({own} against {other}{unit})"


def confidence(answer: Recommendation) -> str:
    """How sure the choice is."""
    best, tied = answer.best, [c.label for c in answer.tied if c.label not in answer.same]
    others = len(best.members) + len(best.excluded) - 1
    if best.distinct < 2 and not tied and not answer.outdone:
        return "There is nothing to compare it with."
    if best.n == 1 and not answer.column.counts:
        return f"Unknown: with {answer.column.units(1)} no test is possible."
    said = list[str]()
    if tied:
        said.append(
            f"Not certain: {len(tied)} of {others} other{'s' * (others > 1)} cannot be told apart from it with "
            f"{answer.column.units(best.n)} ({listed(tied)})."
        )
    elif best.excluded:
        many = len(best.excluded) > 1
        rest = f"Each of the {len(best.excluded)} others" if many else f"The other, {best.excluded[0][0]},"
        said.append(f"{rest} is worse, at most 5 % chance of any error, {ASSUMING} ({answer.column.units(best.n)}).")
    if answer.outdone and answer.second is not None:
        names, worst = [c.label for c, _ in answer.outdone], probability(max(p for _, p in answer.outdone))
        one, second = len(names) == 1, answer.second
        less = f"{'finds' if one else 'find'} fewer {second.items}" if second.counts else f"worse in {second.title}"
        said.append(
            f"{listed(names)} {'is' if one else 'are'} not told apart in {answer.column.title}, and {less}, "
            f"p {worst if worst.startswith('<') else f'= {worst}'} "
            f"({'exact McNemar' if second.counts else 'paired t'}, Holm)."
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
        return f"nothing, the same {candidate.cost.column.title} as unscaled"
    return f"{change(candidate.cost.ratio)} {candidate.cost.column.title}, at worst, at {candidate.cost.length:,}"


_SHOWN = {"better": "", "worse": ": worse", "unknown": ": not shown to be better", None: ""}


def _against_dropping(interval: Interval, direction: Direction | None) -> str:
    """The interval, which is of this choice alone, and what is shown of it among all that are compared."""
    alone = direction == "unknown" and interval.high is not None and interval.high < 1
    return f"{change(interval)}{_SHOWN[direction]}{' once corrected for all comparisons' if alone else ''}"


def facts(answer: Recommendation) -> dict[str, str]:
    """What supports the answer, term by term."""
    choice, column = answer.choice, answer.column
    found = {
        f"{column.title.capitalize()} at {answer.judged_at:,}": f"{measure(column, choice.value)} "
        f"({column.units(choice.value.n)})"
    }
    if choice.against_none is not None:
        found["Against the unscaled model"] = apart(column, choice.against_none.interval)
    if choice.against_truncate is not None:
        found["Against dropping the context"] = _against_dropping(choice.against_truncate.interval, answer.dropping)
    found["Cost at short lengths"] = cost(choice) if not answer.no_cost else f"unknown: {answer.no_cost}"
    second = answer.second
    if choice.found is not None and second is not None and second != column:
        term = f"{second.items} found" if second.counts else second.title
        found[f"{term.capitalize()} at {answer.judged_at:,}"] = (
            f"{measure(second, choice.found)} ({second.units(choice.found.n)})"
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
            f"{answer.column.title} {measure(answer.column, best.value)})."
        )
    finder, second = _finder(answer), answer.second
    if finder is not None and second is not None and finder.found is not None:
        value = measure(second, finder.found)
        said.append(
            f"If retrieval decides: {finder.label} finds {value} of {second.items}."
            if second.counts
            else f"If {second.title} decides: {finder.label} ({value})."
        )
    if answer.too_costly:
        named = ", ".join(f"{c.label} ({cost(c)})" for c in answer.too_costly[:3])
        said.append(
            f"A larger bound than {answer.bound_percent:g} % at short lengths, or more documents, would allow {named}."
        )
    if answer.too_few_found and second is not None:
        named = ", ".join(
            f"{c.label} ({measure(second, c.found) if c.found else MISSING})" for c in answer.too_few_found[:3]
        )
        said.append(f"Fewer {second.items} than {100 * (answer.min_found or 0):g} % would allow {named}.")
    if answer.outdone:
        best, by = answer.outdone[0][0], answer.column.name if answer.column.answered else LOSSES
        said.append(
            f"If {answer.column.title} alone decides (--by {by}): {best.label} ({measure(answer.column, best.value)})."
        )
    if answer.rotates:
        said.append(
            f"{choice.label} turns differently at every length, and its costs hold where the engine follows; an "
            "exported fixed rotation was not measured at the other lengths."
        )
    if len(answer.tied) > len(answer.same) or answer.best.n == 1:
        said.append(f"More {answer.column.unit}s may separate those that tie.")
    return said


def _finder(answer: Recommendation) -> Candidate | None:
    """Which of the tied answers better than the choice, the best of them; None if none does."""
    second, own = answer.second, answer.choice.found
    if second is None or second == answer.column or own is None:
        return None
    sign = 1 if second.higher_is_better else -1
    ahead = [(sign * c.found.value, c) for c in answer.tied if c.found and sign * c.found.value > sign * own.value]
    return max(ahead, key=lambda pair: pair[0])[1] if ahead else None
