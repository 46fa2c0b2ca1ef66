"""How often elimination while measuring is wrong, and how many passes it saves: seeded simulations, and a replay.

    python benchmarks/deciding.py [--runs 1000] [--configurations 2 7 44] [--documents 8 16 32 64] [--passkeys]
    python benchmarks/deciding.py --replay LOSSES.npz|RUN [--runs 40]

Prints Markdown, a line for each number of configurations and documents; each line has a seed of its own, so that it is
the same alone. Simulated: configurations of which none differs, or some do, in the designs of benchmarks/claims.py;
an error is that one which is truly best has left at any look. Replayed: losses of a real model (tools/window_losses.py)
or of a complete run, in random orders of documents; passes saved, what was left over at the end, and false alarms among
configurations whose documents were dealt out again so that no two differ. Beside it stand what one test at the end
says, pairwise e-processes after every document at half the level with that test at the other half, and looks by plain t
with kinds of documents as blocks and without, which are to be compared with each other.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from claims import DESIGNS, Draw, names
from scipy import special

from ropewalk.corpus import builtin_documents
from ropewalk.experiment.results import Run as Results
from ropewalk.report.study import known
from ropewalk.stats.best import best_set, step_down
from ropewalk.stats.blocks import Block
from ropewalk.stats.policy import Outcomes
from ropewalk.stats.sequential import Look, Standing, judge, looks

COLUMNS = known()

SEED = 20261
ALPHA = 0.05
PRIOR = 0.01
"""Of the mixture over effect sizes, normal with variance 1 / PRIOR: the best of six for 35 configurations."""
Run = tuple[set[str], int]
"""Who is left, and how many windows were read over all configurations."""
Rule = Callable[[Outcomes, int, int], Run]


def values(
    found: np.ndarray, labels: tuple[str, ...], metric: str = "tail", kinds: Sequence[str] | None = None
) -> Outcomes:
    """Mean losses, or passkeys found, `[C, N, W]`; units are named after their kinds."""
    units = tuple(f"{i} {kind}" for i, kind in enumerate(kinds or [""] * found.shape[1]))
    ones = np.ones_like(found)
    return Outcomes(
        column=COLUMNS[metric], length=8192, labels=labels, units=units, numerators_CNW=found, denominators_CNW=ones
    )


def at_looks(run: Outcomes, n: int, w: int) -> Run:
    """stats/sequential.py."""
    standing, read = Standing(running=run.labels), np.zeros(len(run.labels), dtype=int)
    for look in looks(n, w):
        for label in standing.running:
            read[run.labels.index(label)] = look.units * look.windows
        standing = judge(standing, run.block(standing.running, look), look, ALPHA)
        if len(standing.running) == 1:
            break
    return set(standing.running), int(read.sum())


def t_of_pairs(block: Block, kinds: Sequence[str]) -> np.ndarray:
    """`[C, C]` of p by t, of differences whose spread is counted within kinds alone."""
    x_CN, own = block.numerators_CN / block.denominators_CN, np.unique(kinds, return_inverse=True)[1]
    apart_CCN = x_CN[:, None] - x_CN[None]
    mean_CCK = np.stack([apart_CCN[..., own == k].mean(axis=-1) for k in range(own.max() + 1)], axis=-1)
    n, degrees = x_CN.shape[1], x_CN.shape[1] - own.max() - 1
    if degrees < 1:
        return np.full(apart_CCN.shape[:2], np.nan)
    error_CC = np.sqrt(((apart_CCN - mean_CCK[..., own]) ** 2).sum(axis=-1) / degrees / n)
    t_CC = np.divide(apart_CCN.mean(axis=-1), error_CC, out=np.zeros_like(error_CC), where=error_CC > 0)
    return 2 * special.stdtr(degrees, -np.abs(t_CC))


def by_t(blocked: bool) -> Rule:
    """The looks with plain t, kinds of documents being blocks or not."""

    def rule(run: Outcomes, n: int, w: int) -> Run:
        running, read = list(run.labels), np.zeros(len(run.labels), dtype=int)
        for look in looks(n, w):
            for label in running:
                read[run.labels.index(label)] = look.units * look.windows
            block = run.block(running, look)
            kinds = [unit.split()[-1] if blocked else "" for unit in block.units]
            stay, _ = step_down(block.losses_C, t_of_pairs(block, kinds), ALPHA * look.share)
            running = [running[i] for i in stay]
            if len(running) == 1:
                break
        return set(running), int(read.sum())

    return rule


def at_the_end(run: Outcomes, n: int, w: int) -> Run:
    """One test of everything."""
    block = run.block(run.labels, Look(units=n, windows=w, share=1.0))
    return set(best_set(block, ALPHA).members), n * w * len(run.labels)


def e_processes(run: Outcomes, n: int, w: int) -> Run:
    """Pairwise right-Haar mixtures of t after every document, stepping down, and one test at the end."""
    running, read = list(run.labels), 0
    for units in range(1, n + 1):
        read += w * len(running)
        block = run.block(running, Look(units=units, windows=w, share=1.0))
        if units > 2 and len(running) > 1:
            stay, _ = step_down(block.losses_C, e_values(block), ALPHA / 2)
            running = [running[i] for i in stay]
    block = run.block(running, Look(units=n, windows=w, share=1.0))
    return set(best_set(block, ALPHA / 2).members), read


def e_values(block: Block) -> np.ndarray:
    """`[C, C]` of 1 / E: `E = sqrt(c/(n + c)) (1 - n s/(n + c))^(-n/2)`, `s = S^2/(n V)` (Lai 1976; Wang & Ramdas).

    Of passkeys the Beta(1/2, 1/2) mixture over the share of discordant trials that one of two finds.
    """
    if block.counts:
        only_CC = block.numerators_CN @ (1 - block.numerators_CN).T
        both_CC = special.betaln(only_CC + 0.5, only_CC.T + 0.5) - special.betaln(0.5, 0.5)
        return np.minimum(1.0, np.exp(-both_CC - (only_CC + only_CC.T) * np.log(2)))
    x_CN = block.numerators_CN / block.denominators_CN
    n = x_CN.shape[1]
    apart_CCN = x_CN[:, None] - x_CN[None]
    square_CC = (apart_CCN**2).sum(axis=2)
    s_CC = np.divide(apart_CCN.sum(axis=2) ** 2, n * square_CC, out=np.zeros_like(square_CC), where=square_CC > 0)
    log_CC = 0.5 * np.log(PRIOR / (n + PRIOR)) - n / 2 * np.log1p(-n * s_CC / (n + PRIOR))
    return np.minimum(1.0, np.exp(-log_CC))


RULES: dict[str, Rule] = {"one test at the end": at_the_end, "e-processes": e_processes, "looks": at_looks}
OF_KINDS: dict[str, Rule] = {"looks, plain t": by_t(False), "looks, kinds as blocks": by_t(True)}


def passkeys_err(rng: np.random.Generator, c: int, n: int) -> bool:
    """c configurations find a passkey with a chance of .7, trials alike in half of what they show."""
    shared_N = rng.random(n)
    found = np.where(rng.random((c, n)) < 0.5, shared_N, rng.random((c, n))) < 0.7
    standing = Standing(running=tuple(names(c)))
    for look in looks(n):
        block = Block(
            column=COLUMNS["passkey"],
            lengths=(8192,),
            labels=tuple(names(c)),
            units=tuple(map(str, range(look.units))),
            numerators_CN=found[:, : look.units].astype(np.float64),
            denominators_CN=np.ones((c, look.units)),
        )
        standing = judge(standing, block.only(standing.running), look, ALPHA)
    return bool(standing.left)


def errs(rule: Rule, draw: Draw, rng: np.random.Generator, c: int, n: int, *, apart: bool) -> bool:
    """One that is truly best has left; `apart`: the second half of c is worse by .02 to .5 nats."""
    worse_C = np.r_[np.linspace(0.02, 0.5, c // 2), np.zeros(c - c // 2)] if apart else np.zeros(c)
    labels = tuple(names(c))
    best = {label for label, worse in zip(labels, worse_C, strict=True) if worse == 0}
    kept, _ = rule(values((2.5 + worse_C[:, None] + draw(rng, c, n))[:, :, None], labels), n, 1)
    return not best <= kept


def simulated(runs: int, configurations: Sequence[int], documents: Sequence[int]) -> Iterator[str]:
    """Share of runs with an error, by design; beside each number of configurations, half of seven or more are worse."""
    yield f"| error at any look, {runs} runs | {' | '.join(DESIGNS)} |"
    yield "|---|" + "---|" * len(DESIGNS)
    kinds = itertools.product(configurations, (False, True))
    for c, apart in kinds:
        for n in documents if c > 2 or not apart else ():
            rates = (f"{_rate(draw, c, n, runs, apart=apart):.3f}".removeprefix("0") for draw in DESIGNS.values())
            yield f"| {c} configurations{', half of them worse' * apart}, {n} documents | {' | '.join(rates)} |"


def simulated_passkeys(runs: int, configurations: Sequence[int]) -> Iterator[str]:
    """The same of trials."""
    for c, n in itertools.product(configurations, (20, 100)):
        rng = np.random.default_rng([SEED, c, n])
        yield f"passkeys, {c} configurations, {n} trials: {np.mean([passkeys_err(rng, c, n) for _ in range(runs)]):.3f}"


def _rate(draw: Draw, c: int, n: int, runs: int, *, apart: bool) -> float:
    rng = np.random.default_rng([SEED, c, n])
    return float(np.mean([errs(at_looks, draw, rng, c, n, apart=apart) for _ in range(runs)]))


def replayed(path: Path, runs: int) -> Iterator[str]:
    """Orders of documents: passes saved, best sets, false alarms."""
    if path.is_dir():
        labels, metrics, trials = of_run(path)
    else:
        with np.load(path) as stored:
            own = stored["labels"] != "truncate"
            labels, metrics = stored["labels"][own], {name: stored[name][own] for name in ("tail", "perplexity")}
            trials = stored["passkey"][own][:, :, None] if "passkey" in stored else None
    yield from _of_losses(metrics, labels, runs)
    if trials is not None:
        yield from _of_passkeys(trials, labels, runs)


def of_run(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """Labels, losses `[C, D, W]` and trials `[C, N, 1]` of a complete run at its longest length."""
    found = Results.open(path)
    samples = found.samples()
    samples = samples[(samples["label"] != "truncate") & (samples["length"] == samples["length"].max())]
    labels = samples["label"].unique()
    clusters = [row["cluster"] for row in found.meta["documents"]]
    shapes = {"tail": (len(set(clusters)), -1), "perplexity": (len(set(clusters)), -1), "passkey": (-1, 1)}
    metrics = {
        name: (rows["numerator"] / rows["denominator"]).to_numpy().reshape(len(labels), *shapes[name])
        for name, rows in samples.groupby("metric")
        if name in shapes
    }
    return labels, metrics, metrics.pop("passkey", None)


def _of_passkeys(found_CNW: np.ndarray, labels: np.ndarray, runs: int) -> Iterator[str]:
    who = tuple(labels)
    yield f"\npasskeys, {len(who)} configurations, {found_CNW.shape[1]} trials"
    yield "| trials | rule | trials saved | left over | as in all of them |"
    yield "|---|---|---|---|---|"
    for n in dict.fromkeys(min(n, found_CNW.shape[1]) for n in (20, 40)):
        for name, rule in RULES.items():
            yield f"| {n} | {name} | {' | '.join(_replay(rule, found_CNW, who, n, 1, runs, 'passkey')[:-1])} |"


def _of_losses(metrics: dict[str, np.ndarray], labels: np.ndarray, runs: int) -> Iterator[str]:
    for metric, found_CDW in metrics.items():
        _, first = np.unique(found_CDW.reshape(len(labels), -1).round(9), axis=0, return_index=True)
        own = np.sort(first)
        found_CDW, who = found_CDW[own], tuple(labels[own])
        yield f"\n{metric}, {len(who)} different configurations of {len(labels)}, {found_CDW.shape[1]} documents"
        yield "| documents x windows | rule | passes saved | left over | as in all of them | false alarms |"
        yield "|---|---|---|---|---|---|"
        windows = found_CDW.shape[2]
        designs = ((8, 1), (12, 1), (16, 1), (17, 1), (8, 4), (16, 4), (8, windows))
        for n, w in dict.fromkeys((n, w) for n, w in designs if n <= found_CDW.shape[1] and w <= windows):
            for name, rule in (RULES | OF_KINDS).items():
                yield f"| {n} x {w} | {name} | {' | '.join(_replay(rule, found_CDW, who, n, w, runs))} |"


def _replay(
    rule: Rule, found_CDW: np.ndarray, who: tuple[str, ...], n: int, w: int, runs: int, metric: str = "tail"
) -> list[str]:
    rng = np.random.default_rng([SEED, n, w])
    documents, windows = found_CDW.shape[1:]
    kinds = [each.kind for each in builtin_documents(documents)] if metric == "tail" else [""] * documents
    best = who[int((found_CDW if metric == "tail" else -found_CDW).mean(axis=(1, 2)).argmin())]
    saved, sizes, holds, alarms = [], [], [], []
    for _ in range(runs):
        order, spread = rng.permutation(documents)[:n], rng.permutation(windows)[:w]
        part, own = found_CDW[:, order][:, :, spread], [kinds[i] for i in order]
        kept, read = rule(values(part, who, metric, own), n, w)
        saved.append(1 - read / (n * w * len(who)))
        sizes.append(len(kept))
        holds.append(best in kept)
        if metric == "tail":
            level = part - found_CDW.mean(axis=(1, 2), keepdims=True)
            alarms.append(len(rule(values(level, who, kinds=own), n, w)[0]) < len(who))
    return [
        f"{np.mean(saved):.2f}",
        f"{np.mean(sizes):.1f}",
        f"{np.mean(holds):.2f}",
        f"{np.mean(alarms or [0.0]):.3f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--configurations", type=int, nargs="+", default=[2, 7, 44])
    parser.add_argument("--documents", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--passkeys", action="store_true", help="Trials instead of documents.")
    parser.add_argument("--replay", type=Path)
    asked = parser.parse_args()
    if asked.replay is not None:
        lines = replayed(asked.replay, asked.runs)
    elif asked.passkeys:
        lines = simulated_passkeys(asked.runs, asked.configurations)
    else:
        lines = simulated(asked.runs, asked.configurations, asked.documents)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
