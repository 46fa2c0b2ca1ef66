"""A small slice of benchmarks/hostile.py, on one tree that nobody may touch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import hostile
import hostile_damage
import hostile_verbs
import hostile_watch

QUICK = ("server answers", "rotation files", "safetensors", "names with terminal codes")


@pytest.mark.parametrize("kind", QUICK)
def test_every_input_is_taken_or_refused_in_one_sentence(kind: str) -> None:
    assert hostile.campaign(0.01, 1, [kind])["inputs"] >= 100


def test_damaged_run_directories_go_through_every_verb() -> None:
    found = hostile_verbs.directories(range(8), 7, 10**9, 0.34)
    assert found["directories"] == 8
    assert sum(tally.taken for tally in found["verbs"].values()) >= 5
    assert sum(tally.refused for tally in found["verbs"].values()) >= 1


def test_whatever_is_touched_outside_is_a_break(tmp_path: Path) -> None:
    place = hostile_damage.Place(tmp_path)
    precious = place.sentinel / "nll" / "precious"
    touches: list[Callable[[], object]] = [
        lambda: (place.home / "link").hardlink_to(precious),
        lambda: precious.write_bytes(b"precious"),
        lambda: precious.unlink(),
        lambda: (place.sentinel / "more").touch(),
    ]
    for touch in touches:
        before = place.state()
        touch()
        assert place.state() != before
    hostile_verbs.forbidden[:] = [str(place.sentinel)]
    try:
        for look in (lambda: (place.sentinel / "precious").read_bytes(), lambda: list(place.sentinel.iterdir())):
            with pytest.raises(hostile_watch.Broken, match=str(place.sentinel)):
                look()
    finally:
        hostile_verbs.forbidden.clear()


def test_a_break_would_be_noticed() -> None:
    def careless(value: int) -> None:
        raise KeyError(value)

    with pytest.raises(hostile_watch.Broken, match="traceback KeyError"):
        hostile_watch.Tally().count(careless, 1)
    with pytest.raises(hostile_watch.Broken, match="terminal code"):
        hostile_watch.require_plain("a\x1b[2J")
