"""Shards merge into the store that one run writes; what does not belong together is refused and leaves nothing."""

from __future__ import annotations

import dataclasses
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from test_executors import raw_files, rows

from ropewalk.errors import ExperimentError, StoreError
from ropewalk.execution.merge import merge
from ropewalk.execution.run import sweep
from ropewalk.execution.shard import Shard
from ropewalk.execution.status import lines, status
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.store import Store
from ropewalk.experiment.verify import verify_rows


@pytest.fixture(scope="module")
def shards(base_experiment, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    made = [folder / str(place) for place in (1, 2, 3)]
    for place, out in enumerate(made, 1):
        sweep(ask(schema.parse(base_experiment, "test")), out, shard=Shard(place, 3))
    return made


def meta(directory: Path, key: str, value: str) -> None:
    with sqlite3.connect(directory / "run.sqlite") as db:
        db.execute("UPDATE meta SET value = ? WHERE key = ?", [value, key])
    db.close()


def copied(shards: list[Path], tmp_path: Path) -> list[Path]:
    import shutil

    return [Path(shutil.copytree(shard, tmp_path / "shards" / shard.name)) for shard in shards]


def test_all_shards_make_the_run(shards, finished, tmp_path):
    merge([shards[2], shards[0], shards[1]], tmp_path / "merged")
    assert rows(tmp_path / "merged") == rows(finished)
    assert raw_files(tmp_path / "merged") == raw_files(finished)
    assert verify_rows(tmp_path / "merged")[1] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]
    whole = sum(len(rows(finished)[name]) for name in ("passes", "answers"))
    parts = [sum(len(rows(shard)[name]) for name in ("passes", "answers")) for shard in shards]
    assert max(parts) < whole <= sum(parts)
    store = Store.open_run(tmp_path / "merged", read_only=True)
    assert {row["worker"] for row in (*store.table("passes"), *store.table("answers"))} == {1, 2, 3}
    assert "shard" not in store.meta("identity")
    store.close()


def test_a_merged_run_goes_on_as_any(shards, finished, tmp_path, base_experiment):
    merge(shards, tmp_path / "merged")
    before = rows(tmp_path / "merged")
    sweep(ask(schema.parse(base_experiment, "test")), tmp_path / "merged")
    assert rows(tmp_path / "merged") == before


def test_a_shard_resumes_as_itself_and_no_other(shards, tmp_path, base_experiment):
    (shard, *_) = copied(shards[:1], tmp_path)
    before = rows(shard)
    with sqlite3.connect(shard / "run.sqlite") as db:
        db.execute("DELETE FROM answers")
    db.close()
    sweep(ask(schema.parse(base_experiment, "test")), shard, shard=Shard(1, 3))
    assert rows(shard) == before
    with pytest.raises(StoreError, match=r"holds another experiment \(shard is '1/3' there and '2/3' here\)"):
        sweep(ask(schema.parse(base_experiment, "test")), shard, shard=Shard(2, 3))


class TestRefusals:
    def refused(self, directories: list[Path], tmp_path: Path, said: str) -> None:
        with pytest.raises(StoreError, match=said):
            merge(directories, tmp_path / "merged")
        assert not (tmp_path / "merged").exists()
        assert not list(tmp_path.glob(".merged-*"))

    def test_a_shard_is_missing(self, shards, tmp_path):
        self.refused(shards[:2], tmp_path, r"^merge: shard 3/3 is missing; run it, and name its directory too\.")

    def test_a_shard_is_named_twice(self, shards, tmp_path):
        self.refused(
            [*shards[:2], shards[0]], tmp_path, "is shard 1/3, and .*1 is 1/3; name every shard of one run, once"
        )

    def test_a_whole_run(self, shards, finished, tmp_path):
        self.refused([finished, *shards], tmp_path, "is no shard; name directories that `ropewalk run --shard` made")

    def test_another_experiment(self, shards, tmp_path, base_experiment):
        sweep(ask(schema.parse(base_experiment | {"seed": 9}, "test")), tmp_path / "other", shard=Shard(3, 3))
        said = r"other: is a shard of another experiment than .*1 \(seed is 3 there and 9 here\)"
        self.refused([*shards[:2], tmp_path / "other"], tmp_path, said)

    def test_other_documents_are_counted_and_not_hashed(self, shards, tmp_path):
        own = copied(shards, tmp_path)
        for shard, count in zip(own, (2, 2, 3), strict=True):
            store = Store.open_run(shard)
            identity = store.meta("identity")
            asked = identity["experiment"] | {"documents": identity["experiment"]["documents"] | {"count": count}}
            with store.transaction():
                texts = {"documents": [*identity["documents"], "f" * 64][: count + 1]}  # their hashes differ as well
                store.set_meta("identity", identity | {"experiment": asked} | texts)
            store.close()
        said = r"3: is a shard of another experiment than .*1 \(documents\.count is 2 there and 3 here\)"
        self.refused(own, tmp_path, said)

    def test_other_weights_and_canaries(self, shards, tmp_path):
        own = copied(shards, tmp_path)
        store = Store.open_run(own[2])
        model, known = store.meta("model"), store.meta("canary")
        with store.transaction():
            store.set_meta("canary", known | {"nll": [value + 0.01 for value in known["nll"]]})
        self.refused(own, tmp_path, r"its canary is 0\.01 nats/token from that of")
        with store.transaction():
            store.set_meta("canary", known)
            store.set_meta("model", model | {"weights_sha256": "0" * 64})
        said = (
            rf"{own[2]}: was measured with weights_sha256 0+, and {own[0]} with [1-9a-f]\w+; measure every shard with"
        )
        self.refused(own, tmp_path, said)
        store.close()

    @pytest.mark.parametrize("key", ["canary", "model", "identity"])
    def test_a_record_of_another_kind(self, shards, tmp_path, key):
        directories = copied(shards, tmp_path)
        meta(directories[1], key, '{"shard": 7}')
        self.refused(directories, tmp_path, f"{directories[1]}")

    def test_a_directory_that_holds_something(self, shards, tmp_path):
        (tmp_path / "merged").mkdir()
        (tmp_path / "merged" / "mine").write_text("kept")
        with pytest.raises(StoreError, match="holds 'mine' and no run"):
            merge(shards, tmp_path / "merged")
        with pytest.raises(StoreError, match=f"^{shards[0]}: holds a run; name an empty or a new directory"):
            merge(shards, shards[0])

    @pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", "1/99999"])
    def test_no_shard(self, text):
        with pytest.raises(ExperimentError, match=rf"--shard {text}: must be K/N with K from 1 to N"):
            Shard.parse(text)


def test_status_of_a_shard_that_is_not_done_counts_what_it_has_to_do(shards, tmp_path):
    (shard, *_) = copied(shards[:1], tmp_path)
    before = status(shard)
    with sqlite3.connect(shard / "run.sqlite") as db:
        lost = db.execute("DELETE FROM answers WHERE rowid % 2").rowcount
    db.close()
    found = status(shard)
    assert 0 < found.done == before.total - lost < found.total == before.total


def test_status_counts_what_is_done_and_by_whom(finished, shards):
    whole = status(finished)
    assert whole.done == whole.total == len(rows(finished)["passes"]) + len(rows(finished)["answers"])
    (hand,) = whole.workers
    assert (hand.outcomes, hand.failures, hand.device) == (whole.total, 0, "cpu")
    part = status(shards[0])
    assert part.done == part.total == part.workers[0].outcomes < whole.total
    assert lines(part)[0].startswith(f"{part.total} of {part.total} passes and answers done, 0 failed")
    late = status(finished, now=datetime.fromisoformat(hand.last) + timedelta(seconds=90))
    assert lines(late)[0] == f"{whole.total} of {whole.total} passes and answers done, 0 failed; last outcome 90 s ago"
    slow = dataclasses.replace(hand, worker=2, per_s=0.5, failures=1)
    two = dataclasses.replace(whole, workers=(dataclasses.replace(hand, per_s=2.0), slow), done=1, left_s=8.0)
    assert lines(two)[0].endswith("8 s left at this pace")
    assert lines(two)[2] == f"worker 2 on cpu: {hand.outcomes} outcomes, 0.50 a second, 1 failed  (slowest)"
