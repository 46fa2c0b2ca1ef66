"""The passes that are not stored yet, in order; each batch is durable, with the cells it finishes, when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.experiment import trials
from ropewalk.experiment.plan import Feed, Plan
from ropewalk.experiment.prepare import Prepared, prompts
from ropewalk.experiment.raw import Raw, write_cells
from ropewalk.experiment.store import Store
from ropewalk.metrics.readings import fed_ids
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, Failure, NllRow, Split, score, score_shared
from ropewalk.scoring.foreign_errors import ForwardError, is_out_of_memory, release
from ropewalk.scoring.generate import generate

Progress = Callable[[str, int, int], None]
"""Called with (what, tokens done, tokens in all)."""

Outcomes = Mapping[tuple[Feed, int], Mapping[int, tuple[Any, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A pass still to do: a feed on one document up to `stop`."""

    feed: Feed
    document: int
    stop: int

    @property
    def tokens(self) -> int:
        return self.stop - self.feed.start


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def all_passes(store: Store, prepared: Prepared, parts: Split, budget: int, report: Progress, *, exact: bool) -> None:
    """Do everything the plan asks for and the store does not hold."""
    raw = Raw.read(store)
    done = _documents(store, raw, prepared, parts, budget, report)
    _passkeys(store, raw, prepared, parts, budget, done, report, exact=exact)
    with store.transaction():
        raw.refresh()
        write_cells(store, raw, prepared.plan.cells)


def pending(plan: Plan, outcomes: Outcomes) -> list[Work]:
    """The passes still to do: the longest end of every feed on every document, or the next shorter one where longer
    ones failed (one that did not fit, or lost its numbers at some token, says nothing about its prefix)."""
    work = []
    for feed, ends in plan.feeds.items():
        for document in range(plan.documents):
            stored = outcomes.get((feed, document), {})
            reached = max((stop for stop, outcome in stored.items() if outcome[0] == "ok"), default=0)
            failed = min((stop for stop, outcome in stored.items() if outcome[0] != "ok"), default=ends[-1] + 1)
            left = [end for end in ends if reached < end < failed]
            if left:
                work.append(Work(feed=feed, document=document, stop=left[-1]))
    return work


def _documents(store: Store, raw: Raw, prepared: Prepared, parts: Split, budget: int, report: Progress) -> int:
    total = prepared.plan.tokens
    done = total - sum(work.tokens for work in pending(prepared.plan, raw.passes)) - _passkey_tokens(prepared)
    while work := pending(prepared.plan, raw.passes):
        left = Counter(item.feed.fingerprint for item in work)
        rows = [_row(prepared, item) for item in work]
        for batch in score(prepared.model.model, parts, rows, budget):
            stored = [pass_row(store, work[index], outcome) for index, outcome in batch]
            left.subtract(row["fingerprint"] for row in stored)
            finished = {row["fingerprint"] for row in stored if left[row["fingerprint"]] == 0}
            with store.transaction():
                for row in stored:
                    store.insert("passes", row)
                if finished:
                    raw.refresh()
                    cells = prepared.plan.cells
                    write_cells(store, raw, (c for c in cells if c.fingerprint in finished and c.metric != "passkey"))
            done += sum(work[index].tokens for index, _ in batch)
            report("scoring documents", done, total)
        raw.refresh()
    return done


def _passkey_tokens(prepared: Prepared) -> int:
    return sum(length for _, length in prepared.plan.passkeys) * prepared.plan.trials


def _row(prepared: Prepared, work: Work) -> NllRow:
    tokens = prepared.tokens[work.document]
    bos_id = prepared.model.tokenizer.bos_token_id if work.feed.bos and tokens.bos else None
    ids = fed_ids(tokens.ids, work.feed.start, work.stop, bos_id)
    return NllRow(ids=ids, scheme=Scheme(rotation=prepared.plan.rotations[work.feed.fingerprint]))


def pass_row(store: Store, work: Work, outcome: Any) -> dict[str, Any]:
    """Write a pass's losses and make its row."""
    feed = work.feed
    row: dict[str, Any] = {
        "fingerprint": feed.fingerprint,
        "document": work.document,
        "start": feed.start,
        "bos": int(feed.bos),
        "stop": work.stop,
        "status": "ok",
        "reason": None,
        "file": None,
        "sha256": None,
        "finished_at": now(),
    }
    if isinstance(outcome, Failure):
        return row | {"status": outcome.status, "reason": outcome.reason}
    name = f"nll/{feed.fingerprint}-{work.document}-{feed.start}{'b' * feed.bos}-{work.stop}.safetensors"
    return row | {"file": name, "sha256": store.write_arrays(name, {"nll": outcome})}


def _passkeys(
    store: Store, raw: Raw, prepared: Prepared, parts: Split, budget: int, done: int, report: Progress, *, exact: bool
) -> None:
    asked = prepared.asked.experiment.metrics.passkey
    if asked is None:
        return
    stored = {(pair, row["trial"]) for pair, rows in raw.trials.items() for row in rows}
    left = Counter({pair: asked.trials - sum(key == pair for key, _ in stored) for pair in prepared.plan.passkeys})
    done += sum((asked.trials - count) * length for (_, length), count in left.items())
    wanted = [(pair, trial) for pair in left for trial in range(asked.trials) if (pair, trial) not in stored]
    run = _generated if asked.protocol == "yarn" else _forced
    for rows in run(prepared, parts, wanted, budget, exact=exact):
        left.subtract((row["fingerprint"], row["length"]) for row in rows)
        finished = {(row["fingerprint"], row["length"]) for row in rows} & {pair for pair in left if left[pair] == 0}
        with store.transaction():
            for row in rows:
                store.insert("trials", row | {"finished_at": now()})
            if finished:
                raw.refresh()
                cells = (c for c in prepared.plan.cells if c.metric == "passkey")
                write_cells(store, raw, (c for c in cells if (c.fingerprint, c.length) in finished))
        done += sum(row["length"] for row in rows)
        report("passkey", done, prepared.plan.tokens)


Wanted = list[tuple[tuple[str, int], int]]
"""((fingerprint, length), trial) of every prompt still to do."""


def _forced(prepared: Prepared, parts: Split, wanted: Wanted, budget: int, *, exact: bool) -> Iterator[list[Any]]:
    """Trials with the answer fed in, in batches that share the beginnings of their prompts."""
    plan, tokenizer, model = prepared.plan, prepared.model.tokenizer, prepared.model.model
    built: dict[int, Any] = {length: prompts(prepared, length) for length in {length for _, length in plan.passkeys}}
    every = [(pair, trial) for pair in plan.passkeys for trial in built[pair[1]]]
    rows = [
        AnswerRow(ids=trial.ids, scheme=Scheme(rotation=plan.rotations[pair[0]]), answer_tokens=trial.answer_tokens)
        for pair, trial in every
    ]
    asked = set(wanted)
    left = [index for index, (pair, trial) in enumerate(every) if (pair, trial.index) in asked]
    if exact:
        batches = score(model, parts, [rows[index] for index in left], budget)
    else:
        batches = score_shared(model, parts, rows, budget, left) if left else iter(())
    for batch in batches:
        found = ((left[index] if exact else index, outcome) for index, outcome in batch)
        yield [trials.outcome_row(tokenizer, *every[index][0], every[index][1], outcome) for index, outcome in found]


def _generated(prepared: Prepared, parts: Split, wanted: Wanted, budget: int, *, exact: bool) -> Iterator[list[Any]]:
    """Trials that are really generated, one at a time (YaRN's protocol)."""
    tokenizer = prepared.model.tokenizer
    built: dict[int, Any] = {length: prompts(prepared, length) for length in {length for (_, length), _ in wanted}}
    for (fingerprint, length), index in wanted:
        new = continued(prepared, built[length][index], fingerprint)
        yield [trials.generated_row(tokenizer, fingerprint, length, built[length][index], new)]


def continued(prepared: Prepared, trial: trials.GeneratedTrial, fingerprint: str) -> NDArray[np.int32] | Failure:
    """What the model says after a prompt of YaRN's protocol, int32 `[<= 10]`."""
    ids = np.array(prepared.model.tokenizer(trial.prompt, verbose=False)["input_ids"], dtype=np.int32)
    try:
        return generate(prepared.model.model, ids, prepared.plan.rotations[fingerprint], trials.YARN_NEW_TOKENS)
    except ForwardError as error:
        return Failure(status="error", reason=str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    release()
    return Failure(status="out_of_memory", reason=f"generating after {len(ids)} tokens did not fit in memory")
