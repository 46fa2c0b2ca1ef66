"""What a step sees follows from seed and number alone, and its version from what they draw."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
from descents import LENGTH, WINDOW

import checkpoints
from ropewalk.metrics.passkey import keys
from ropewalk.tuning import draws


def test_steps_are_drawn_from_seed_and_number_alone(material: draws.Material) -> None:
    banned = dataclasses.replace(material, banned=frozenset(keys(20, LENGTH, 0)))
    one, again, other = (draws.draw(banned, seed, 4) for seed in (0, 0, 1))
    assert np.array_equal(one.text.ids, again.text.ids)
    assert one.prompt is not None
    assert again.prompt is not None
    assert np.array_equal(one.prompt.ids, again.prompt.ids)
    assert not np.array_equal(one.text.ids, other.text.ids)
    words = checkpoints.tokenizer()
    lengths, real = [], 0
    for step in range(60):
        drawn = draws.draw(banned, 0, step)
        assert len(drawn.text.ids) == LENGTH
        assert drawn.text.ids[0] == 0
        assert drawn.prompt is not None
        lengths.append(len(drawn.prompt.ids))
        text = words.decode(drawn.prompt.ids)
        answer = words.decode(drawn.prompt.ids[-drawn.prompt.answer_tokens :]).strip()
        assert text.count(answer) == 3
        assert answer not in banned.banned
        assert text.endswith(f"What is the pass key? The pass key is {answer}")
        real += "The grass is green." not in text
    assert min(lengths) >= WINDOW
    assert max(lengths) <= LENGTH
    assert len(set(lengths)) > 10
    assert 11 < lengths.count(LENGTH) < 50  # halves of 60 are 30, five standard deviations 19.4 beside them
    assert 11 < real < 49


def test_other_draws_have_another_version(material: draws.Material) -> None:
    """What is drawn changes with its version, and with it alone: a tuning does not go on by other draws."""
    found = hashlib.sha256()
    for pieces in (False, True):
        for step in range(24):
            drawn = draws.draw(dataclasses.replace(material, window=WINDOW // 2, pieces=pieces), 3, step)
            for each in (drawn.text.ids, drawn.text.targets, drawn.prompt.ids, drawn.prompt.places):
                found.update(b"" if each is None else each.tobytes())
    assert (draws.VERSION, found.hexdigest()[:16]) == (3, "9cb2782d08cfb7aa")


def test_what_is_timed_is_of_the_step_with_a_probe_as_long_as_they_are_on_average(material: draws.Material) -> None:
    """By the square of the length. 400 draws: the mean of their squares is 1.5 % uncertain."""
    steps = [draws.draw(material, 2, step) for step in range(400)]
    typical = [draws.draw(material, 2, step, typical=True) for step in range(3)]
    assert all(np.array_equal(one.text.ids, other.text.ids) for one, other in zip(typical, steps, strict=False))
    (length,) = {len(each.prompt.ids) for each in typical}
    assert length**2 == pytest.approx(np.mean([len(each.prompt.ids) ** 2 for each in steps]), rel=0.06)
    assert length < LENGTH


def test_documents_come_once_before_any_comes_again(material: draws.Material) -> None:
    one = dataclasses.replace(material, documents=tuple(np.full(300, i, dtype=np.int32) for i in range(3)), bos_id=None)
    seen = [int(draws.draw(one, 0, step).text.ids[0]) for step in range(9)]
    assert [sorted(seen[i : i + 3]) for i in (0, 3, 6)] == [[0, 1, 2]] * 3
