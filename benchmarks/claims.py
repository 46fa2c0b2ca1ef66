"""How often the report's claims are wrong where nothing differs, or where the truth is known: seeded simulations.

    python benchmarks/claims.py [--runs 1000]

Prints the tables of docs/statistics.md as Markdown: rates over so many experiments at 8 / 16 / 32 documents, by what
documents do to the configurations. A rate near .05 has a Monte Carlo error of .007. Some minutes on one CPU core.

The designs, per configuration and document, in nats per token, each with mean 0:
symmetric     normal, standard deviation .05
skewed        lognormal (sigma .8) of that size: every configuration has its own few bad documents
contaminated  normal .01; one configuration fails by 1 nat on each document with a chance of 10 %
block         documents of four kinds, which each configuration takes its own way (.05), and .02 within a kind
tied          normal .05 on three documents in ten, exactly alike on the others
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special

from ropewalk.report.costs import short_costs
from ropewalk.report.ranking import by_method
from ropewalk.report.study import known
from ropewalk.stats.best import best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.compare import compare_to
from ropewalk.stats.effective import against_reference, effective_length
from ropewalk.stats.findings import quality
from ropewalk.stats.measured import NONE, TRUNCATE, Measured, Row
from ropewalk.stats.pooled import ratio_interval
from ropewalk.stats.robust import by_ranks
from ropewalk.stats.sensitivity import sensitivity

SEED = 31337
DOCUMENTS = (8, 16, 32)
WINDOW = 2048
TOKENS = 512.0
TAIL = known()["tail"]
Rng = np.random.Generator
Draw = Callable[[Rng, int, int], np.ndarray]
Claim = Callable[[Draw, Rng, int], bool]


def symmetric(rng: Rng, c: int, n: int) -> np.ndarray:
    return 0.05 * rng.standard_normal((c, n))


def skewed(rng: Rng, c: int, n: int) -> np.ndarray:
    return 0.05 * (np.exp(0.8 * rng.standard_normal((c, n))) - math.exp(0.32))


def contaminated(rng: Rng, c: int, n: int) -> np.ndarray:
    values = 0.01 * rng.standard_normal((c, n))
    values[-1] += (rng.random(n) < 0.1) - 0.1
    return values


def block(rng: Rng, c: int, n: int) -> np.ndarray:
    kinds = 0.05 * np.random.default_rng(c).standard_normal((c, 4))
    kinds -= kinds.mean(axis=1, keepdims=True)
    return kinds[:, np.arange(n) % 4] + 0.02 * rng.standard_normal((c, n))


def tied(rng: Rng, c: int, n: int) -> np.ndarray:
    return 0.05 * rng.standard_normal((c, n)) * (rng.random((c, n)) < 0.3)


DESIGNS: dict[str, Draw] = {f.__name__: f for f in (symmetric, skewed, contaminated, block, tied)}


def outcomes(values: np.ndarray, labels: list[str], length: int = 4 * WINDOW) -> Block:
    """Losses around 2.5 nats, with what all configurations share of a document."""
    return Block(
        column=TAIL,
        lengths=(length,),
        labels=tuple(labels),
        units=tuple(map(str, range(values.shape[1]))),
        numerators_CN=(2.5 + values) * TOKENS,
        denominators_CN=np.full(values.shape, TOKENS),
    )


def names(c: int) -> list[str]:
    """`none`, then configurations of four methods."""
    return [NONE, *(f"m{i % 4} factor={2 + i // 4}" for i in range(c - 1))]


def run_of(blocks: list[Block]) -> Measured:
    """A run that measured these tails."""
    rows = [
        Row(
            method=label.split()[0],
            label=label,
            asked={},
            length=each.lengths[0],
            metric="tail",
            value=math.exp(value),
            ci_low=math.nan,
            ci_high=math.nan,
            n=len(each.units),
            status="ok",
            reason="",
            fingerprint=f"{label} {each.lengths[0]}",
        )
        for each in blocks
        for label, value in zip(each.labels, each.values_C, strict=True)
    ]
    return Measured(
        rows=tuple(rows),
        blocks={("tail", each.lengths[0]): each for each in blocks},
        meta={"geometry": {"window": WINDOW, "window_source": "max_position_embeddings"}},
        columns={TAIL.name: TAIL},
    )


def best_set_errs(draw: Draw, rng: Rng, n: int) -> bool:
    """7 configurations that do not differ: some leaves."""
    return bool(best_set(outcomes(draw(rng, 7, n), names(7))).excluded)


def ranks_err(draw: Draw, rng: Rng, n: int) -> bool:
    """The same by ranks within documents."""
    return len(by_ranks(outcomes(draw(rng, 7, n), names(7)))) < 7


def none_errs(draw: Draw, rng: Rng, n: int) -> bool:
    """12 configurations against an even `none`, Holm."""
    values = np.concatenate([np.zeros((1, n)), draw(rng, 12, n)])
    return any((row.adjusted_p or 1.0) <= 0.05 for row in compare_to(outcomes(values, names(13)), NONE))


def held_out_errs(draw: Draw, rng: Rng, n: int) -> bool:
    """Four methods of three configurations and `none`, none differs: one is called worse in the table of methods."""
    found = outcomes(draw(rng, 13, n), names(13))
    return any(row[4] == "worse" for row in by_method(run_of([found]), found).rows)


def tune_errs(draw: Draw, rng: Rng, n: int) -> bool:
    """A winner beside 8 named methods, none differs: shown to be worse than the one that did best on the tuning set."""
    search, judge = draw(rng, 9, n), draw(rng, 9, n)
    rival = 1 + int(search[1:].mean(axis=1).argmin())
    ratio = outcomes(judge, names(9)).paired(NONE, names(9)[rival]).interval
    return ratio.low is not None and ratio.low > 1


def costs_more(draw: Draw, rng: Rng, n: int) -> bool:
    """Bound 5 %: of 12 configurations half cost 4 %, half 5.5 % and do better far out; the choice costs 5.5 %."""
    true = np.log([1.0, *[1.04] * 6, *[1.055] * 6])
    short = outcomes(true[:, None] + draw(rng, 13, n), names(13), WINDOW)
    far = outcomes(-2 * true[:, None] + symmetric(rng, 13, n), names(13))
    costs = short_costs(run_of([short, far]), far.lengths[0])
    kept = [label for label in far.labels if costs[label].at_most <= 1.05]
    chosen = kept[int(far.only(kept).losses_C.argmin())]
    return names(13).index(chosen) > 6


def reaches(worse: float) -> Claim:
    """A configuration so much worse than `truncate` beyond the window passes for working there."""

    def passes(draw: Draw, rng: Rng, n: int) -> bool:
        values = draw(rng, 2, n) + np.array([[0.0], [math.log(worse)]])
        ratios = against_reference({2 * WINDOW: outcomes(values, [TRUNCATE, "m"], 2 * WINDOW)}, "m", WINDOW)
        return effective_length(ratios, None).length is not None

    return passes


def page_errs(draw: Draw, rng: Rng, n: int) -> bool:
    """12 configurations, `none` and `truncate` at four lengths, nothing differs: anything is called worse or better."""
    labels = names(13)
    shared = draw(rng, 13, n)
    lengths = (WINDOW // 2, WINDOW, 2 * WINDOW, 4 * WINDOW)
    blocks = [outcomes((shared + draw(rng, 13, n)) / math.sqrt(2), labels, length) for length in lengths]
    beyond = [_with_truncate(each, draw(rng, 13, n)[:1]) for each in blocks[2:]]
    run = run_of([*blocks[:2], *beyond])
    if any(best_set(each, alpha).excluded for each, alpha, _ in quality.questions(run)):
        return True
    if any(quality.direction(row) != "unknown" for rows in quality.against_dropping(run).values() for row in rows):
        return True
    grids: dict[str, dict[str, dict[str, Any]]] = {}
    for label in labels[1:]:
        grids.setdefault(label[:2], {})[label] = {"factor": int(label[-1])}
    steps = [step for each in sensitivity(blocks[3], grids).values() for step in each]
    return any((step.adjusted_p or 1.0) <= 0.05 for step in steps)


def _with_truncate(found: Block, values: np.ndarray) -> Block:
    extra = outcomes(values, [TRUNCATE], found.lengths[0])
    return replace(
        found,
        labels=(*found.labels, TRUNCATE),
        numerators_CN=np.concatenate([found.numerators_CN, extra.numerators_CN]),
        denominators_CN=np.concatenate([found.denominators_CN, extra.denominators_CN]),
    )


def value_covers(draw: Draw, rng: Rng, n: int) -> bool:
    """The 95 % interval of the last configuration's perplexity holds the truth."""
    x = 2.5 + draw(rng, 7, n)[-1]
    found = ratio_interval(x * TOKENS, np.full(n, TOKENS))
    return found.low is not None and found.high is not None and found.low <= 2.5 <= found.high


def difference_covers(draw: Draw, rng: Rng, n: int) -> bool:
    """The 95 % interval of the last configuration against an even `none` holds the truth."""
    values = np.stack([np.zeros(n), draw(rng, 7, n)[-1]])
    found = outcomes(values, [NONE, "m"]).paired("m", NONE).interval
    return found.low is not None and found.high is not None and found.low <= 1 <= found.high


ERRORS = {
    "best set of 7: a true best leaves": best_set_errs,
    "the same by ranks": ranks_err,
    "against `none`, 12 configurations, Holm": none_errs,
    "table of methods: a method as good is “worse”": held_out_errs,
    "tune: the winner is “established” worse": tune_errs,
    "`--max-short-cost 5`: the choice costs 5.5 %": costs_more,
    "effective length: 15 % worse than dropping passes": reaches(1.15),
    "whole page: any false better or worse": page_errs,
}
OTHERS = {
    "effective length: as good as dropping passes": reaches(1.0),
    "coverage of 95 % intervals of values": value_covers,
    "coverage of 95 % intervals of differences": difference_covers,
}


def rate(claim: Claim, draw: Draw, n: int, runs: int) -> float:
    """Share of experiments in which it happens."""
    rng = np.random.default_rng([SEED, n])
    return float(np.mean([claim(draw, rng, n) for _ in range(runs)]))


def table(claims: dict[str, Claim], runs: int, documents: tuple[int, ...]) -> Iterator[str]:
    """Markdown, a line at a time."""
    yield f"| {' / '.join(map(str, documents))} documents | {' | '.join(DESIGNS)} |"
    yield "|---|" + "---|" * len(DESIGNS)
    for name, claim in claims.items():
        cells = [[rate(claim, draw, n, runs) for n in documents] for draw in DESIGNS.values()]
        yield f"| {name} | " + " | ".join(" / ".join(_short(x) for x in each) for each in cells) + " |"


def _short(x: float) -> str:
    return f"{x:.2f}".removeprefix("0")


KINDS = np.array([-0.4, -0.1, 0.1, 0.4])
"""Mean nll of four kinds of documents, nats from their average; .3 within a kind."""


def kinds_as_blocks(n: int, runs: int, *, even: bool) -> tuple[float, float, float, float]:
    """Of value intervals whose kinds are blocks: coverage, that of the plain interval, the ratio of their widths, and
    how often a kind has one document and no spread of its own; kinds dealt evenly, or as they come."""
    rng, found, lone = np.random.default_rng([SEED, n]), [], 0
    for _ in range(runs):
        kind_N = np.arange(n) % KINDS.size if even else rng.integers(0, KINDS.size, n)
        x_N = KINDS[kind_N] + 0.3 * rng.standard_normal(n)
        count_K = np.bincount(kind_N, minlength=KINDS.size)
        mean_K = np.bincount(kind_N, x_N, KINDS.size) / np.maximum(count_K, 1)
        degrees = n - np.count_nonzero(count_K)
        within = math.sqrt(((x_N - mean_K[kind_N]) ** 2).sum() / degrees / n)
        blocked = float(special.stdtrit(degrees, 0.975)) * within
        plain = float(special.stdtrit(n - 1, 0.975)) * x_N.std(ddof=1) / math.sqrt(n)
        off = abs(x_N.mean())
        found.append((off <= blocked, off <= plain, blocked / plain))
        lone += bool((count_K == 1).any())
    covers, plainly, width = np.mean(np.array(found, dtype=np.float64), axis=0)
    return float(covers), float(plainly), float(width), lone / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    for claims in (ERRORS, OTHERS):
        for line in table(claims, runs, DOCUMENTS):
            print(line, flush=True)
        print()
    for name, even in (("dealt evenly", True), ("as they come", False)):
        rows = [kinds_as_blocks(n, runs, even=even) for n in DOCUMENTS]
        cover, plain, width, lone = (" / ".join(_short(x) for x in each) for each in zip(*rows, strict=True))
        print(
            f"kinds {name}: blocked covers {cover}, plain {plain}; widths {width}; a lone document of a kind in {lone}"
        )


if __name__ == "__main__":
    main()
