"""Of long texts most steps are fed parts, at the places where they stand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from descents import LENGTH, WINDOW, begin, rotation_of
from tune_experiments import experiment

import checkpoints
from ropewalk.experiment.prepare import prepare
from ropewalk.models import patched
from ropewalk.models.geometry import geometry_of
from ropewalk.scoring.attention import installed
from ropewalk.tuning import asked as asking
from ropewalk.tuning import descent, draws, loss, parameters
from ropewalk.tuning.asked import Request
from ropewalk.tuning.forward import Tunable
from ropewalk.tuning.order import repeatable
from ropewalk.tuning.plan import lines, plan
from ropewalk.tuning.run import tune


@pytest.fixture
def long(material: draws.Material) -> draws.Material:
    return dataclasses.replace(material, window=WINDOW // 2, pieces=True)


def test_a_part_is_the_first_window_and_pieces_beyond_it(long: draws.Material) -> None:
    window, seen = long.window, set[int]()
    for step in range(1, 60):
        drawn, whole = draws.draw(long, 3, step), draws.draw(dataclasses.replace(long, pieces=False), 3, step)
        assert np.array_equal(drawn.text.ids, whole.text.ids)
        places = drawn.text.places
        if step % draws.WHOLE == 0:
            assert places is None
            assert drawn.text.read == (slice(window - 1, LENGTH - 1),)
            continue
        assert len(places) == 2 * window
        assert np.array_equal(places[:window], np.arange(window))
        assert (np.diff(places) > 0).all()
        assert places[-1] <= LENGTH - 2  # each has a token after it
        assert np.array_equal(drawn.text.targets, drawn.text.ids[places + 1])
        for each in drawn.text.read:
            own = places[each]
            assert len(own) == window // draws.PIECES * (draws.BLIND - 1) // draws.BLIND
            assert (np.diff(own) == 1).all()  # inside one piece
            assert own[0] >= window + window // draws.PIECES // draws.BLIND
        seen |= set(places.tolist())
    assert len(seen) > 0.95 * (LENGTH - 1)  # over the steps all of a text is seen


def test_pieces_reach_the_last_token_that_has_one_after_it(long: draws.Material) -> None:
    """Two more tokens than are fed: pieces begin at once, or a token later."""
    short = dataclasses.replace(long, length=2 * long.window + 2)
    drawn = [draws.draw(short, seed, 1).text.places for seed in range(12)]
    assert {int(places[-1]) for places in drawn} == {short.length - 3, short.length - 2}
    assert {int(places[long.window]) for places in drawn} == {long.window, long.window + 1}


def test_other_seeds_are_fed_other_pieces(long: draws.Material) -> None:
    one, again, other = (draws.draw(long, seed, 1).text.places for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("start", [10, 500])
def test_of_a_probe_as_much_is_fed_as_there_is_room_for(start: int) -> None:
    prompt = draws.Prompt(ids=np.arange(1000, dtype=np.int32), answer_tokens=5, needle=slice(start, start + 20))
    ends = {*range(draws.EDGE), *range(1000 - 2 * draws.EDGE - 5, 1000)}
    for seed in range(10):
        places = draws._around(prompt, 300, np.random.default_rng(seed)).places
        assert places is not None
        assert 300 <= len(places) < 300 + draws.EDGE
        assert ends | set(range(max(0, start - draws.EDGE), start + 20 + draws.EDGE)) <= set(places.tolist())
    assert draws._around(prompt, 1000, np.random.default_rng(0)).places is None


def test_of_a_probe_two_windows_are_fed_as_of_a_text(long: draws.Material) -> None:
    longer = dataclasses.replace(
        long, documents=[np.tile(each, 20) for each in long.documents], window=256, length=2048
    )
    fed = [prompt.places for step in range(1, 8) if (prompt := draws.draw(longer, 3, step).prompt) is not None]
    counts = [len(places) for places in fed if places is not None]
    assert len(counts) > 3
    assert all(512 <= count < 512 + draws.EDGE for count in counts)


def test_of_a_probe_its_ends_and_its_needle_are_fed(long: draws.Material) -> None:
    fed = 0
    for step in range(1, 60):
        prompt = draws.draw(dataclasses.replace(long, window=WINDOW // 4), 3, step).prompt
        assert prompt is not None
        if prompt.places is None:
            assert step % draws.WHOLE == 0 or len(prompt.ids) <= WINDOW // 2
            continue
        answer, ids = prompt.ids[-prompt.answer_tokens :], prompt.ids[prompt.places]
        count = sum(np.array_equal(ids[i : i + len(answer)], answer) for i in range(len(ids) - len(answer) + 1))
        assert count == 3  # twice in the needle, and the answer
        assert prompt.places[0] == 0
        assert np.array_equal(
            prompt.places[-prompt.answer_tokens - 20 :], np.arange(len(prompt.ids))[-prompt.answer_tokens - 20 :]
        )
        assert len(prompt.places) < len(prompt.ids)
        fed += 1
    assert fed > 20


def test_a_needle_is_fed_whatever_a_tokenizer_makes_of_its_key(long: draws.Material) -> None:
    """A tokenizer after SentencePiece's manner puts a space before every text, so that an answer has one more than its
    key has in the needle."""
    words, wording = long.encode, long.wording
    spaced = dataclasses.replace(long, window=WINDOW // 4, encode=lambda text: words(" " + text))
    assert wording is not None
    line = list(spaced.encode(f"\n{wording.line('12345')}\n"))
    fed = 0
    for step in range(1, 60):
        prompt = draws.draw(spaced, 3, step).prompt
        assert prompt is not None
        needle = prompt.ids[prompt.needle]
        assert len(needle) == len(line)
        answer = prompt.ids[-prompt.answer_tokens :]
        assert not any(np.array_equal(needle[i : i + len(answer)], answer) for i in range(len(needle)))
        assert "pass key" in checkpoints.tokenizer().decode(needle)
        if prompt.places is not None:
            least, most = prompt.needle.start - draws.EDGE, prompt.needle.stop + draws.EDGE
            assert set(range(max(0, least), min(most, len(prompt.ids)))) <= set(prompt.places.tolist())
            fed += 1
    assert fed > 20


def before(places: torch.Tensor) -> torch.Tensor:
    """The mask of all that is fed before each token, bool `[1, 1, K, K]`."""
    return torch.ones(len(places), len(places), dtype=torch.bool).tril()[None, None]


def test_its_answer_is_read_after_what_is_fed_of_a_probe(model: Any, tunable: Tunable, long: draws.Material) -> None:
    """Against transformers' own attention, whose mask knows of no gaps."""
    material, found = dataclasses.replace(long, window=WINDOW // 4), begin(model, tunable)
    drawn = next(each for step in range(1, 8) if (each := draws.draw(material, 3, step)).prompt.places is not None)
    none = rotation_of(model, "none")
    told = loss.descend(tunable, found, drawn, material.window, none, loss.Weights())
    count = drawn.prompt.answer_tokens
    ids, places = (torch.from_numpy(each.astype(np.int64)) for each in (drawn.prompt.ids, drawn.prompt.places))
    with installed(model, "sdpa"), torch.no_grad(), patched(model, found.rotation(geometry_of(model.config))):
        given = {"position_ids": places[None], "attention_mask": before(places)}
        logits = model(input_ids=ids[places][None], use_cache=False, **given).logits[0, -count - 1 : -1]
    assert told.answer == pytest.approx(float(torch.nn.functional.cross_entropy(logits, ids[-count:])), rel=1e-5)


def test_its_loss_is_that_of_the_tokens_where_they_stand(
    model: Any,
    tunable: Tunable,
    long: draws.Material,
) -> None:
    """Against transformers' own attention of the patched model, which is given the same position ids and all that
    stands before each token, whatever gaps there are between them: float32 through two layers."""
    drawn, found = draws.draw(long, 3, 1), begin(model, tunable)
    none, window = rotation_of(model, "none"), long.window
    told = loss.descend(tunable, found, dataclasses.replace(drawn, prompt=None), window, none, loss.Weights())
    places = torch.from_numpy(drawn.text.places.astype(np.int64))
    ids = torch.from_numpy(drawn.text.ids.astype(np.int64))
    read = np.concatenate([np.arange(len(places))[each] for each in drawn.text.read])

    def losses(rotation: Any, **given: Any) -> torch.Tensor:
        with torch.no_grad(), patched(model, rotation):
            logits = model(input_ids=ids[places][None], attention_mask=before(places), use_cache=False, **given).logits[
                0
            ]
        return torch.nn.functional.cross_entropy(logits, ids[places + 1], reduction="none")

    scaled = found.rotation(geometry_of(model.config))
    with installed(model, "sdpa"):
        own, apart = losses(scaled, position_ids=places[None]), losses(scaled)
        unscaled = losses(none, position_ids=places[None])
    inside = slice(0, window - 1)
    assert told.beyond == pytest.approx(float(own[read].mean()), rel=1e-5)
    assert told.excess == pytest.approx(float(own[inside].mean() - unscaled[inside].mean()), abs=1e-5)
    assert abs(told.beyond - float(apart[read].mean())) > 1e-3  # places matter


def test_a_descent_of_pieces_goes_on_with_the_same_bits(
    model: Any, tunable: Tunable, task: descent.Task, long: draws.Material
) -> None:
    """Interrupted after every step, past one that is fed all of its text."""
    steps = draws.WHOLE + 2
    once, often = (dataclasses.replace(task, material=long, name=name) for name in ("once", "often"))
    whole = begin(model, tunable)
    descent.run(once, whole, steps=steps, budget_s=None, told=lambda s, x: None)
    for done in range(1, steps + 1):
        resumed = begin(model, tunable)
        end = descent.run(often, resumed, steps=steps, budget_s=None, told=lambda s, x: None, pause_s=0.0)
        assert end.done == done
    for name, tensor in whole.named().items():
        assert torch.equal(tensor, resumed.named()[name])


def test_steps_of_both_kinds_are_timed_and_weighed(
    task: descent.Task,
    model: Any,
    tunable: Tunable,
    long: draws.Material,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A whole step takes 8 s and one of pieces 1 s on this clock: 15 s for eight. Timing takes 10: two of pieces, the
    first of which prepares kernels, and one that is whole; with probes of one length, whatever their steps have."""
    now, own, probes = [0.0], loss.descend, []

    def timed(*args: Any) -> loss.Loss:
        now[0] += 8.0 if args[2].text.places is None else 1.0
        probes.append(len(args[2].prompt.ids))
        return own(*args)

    monkeypatch.setattr(descent, "descend", timed)
    monkeypatch.setattr(descent.time, "monotonic", lambda: now[0])
    with repeatable() as order:
        found = descent._affordable(dataclasses.replace(task, material=long), begin(model, tunable), 168.0, order)
    assert found == int(descent.SPARE * (168 - 10) / (15 / 8))
    assert probes == 3 * [len(draws.draw(long, 0, 0, typical=True).prompt.ids)]


def test_steps_of_pieces_are_as_large_however_many() -> None:
    for steps in (8, 80, 800):
        assert parameters.rates("rotation+head+pair", steps, pieces=True) == dict(parameters.RATES)


def test_a_text_of_more_than_four_windows_is_fed_in_pieces_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of 48 tokens: 256 are five of them, and 192 are four."""
    monkeypatch.setattr(asking, "PIECES_OF", 48)
    checkpoints.save(tmp_path / "model", checkpoints.llama(max_position_embeddings=48), checkpoints.tokenizer())
    for seed in range(6):
        (tmp_path / f"{seed}.txt").write_text(checkpoints.prose(seed), encoding="utf-8")
    asked, steps = experiment(tmp_path, lengths=[48], metrics={"perplexity": {}}), draws.WHOLE + 2
    found = tune(asked, Request(length=256, steps=steps), tmp_path / "out").result
    assert found["pieces"] is True
    assert found["weights"] == dataclasses.asdict(loss.PIECES)
    said = (tmp_path / "out" / "tune.md").read_text()
    assert f"{steps} steps (one in 8 is fed all of its text, the others pieces) from" in said
    told = "\n".join(lines(plan(asked, Request(length=256, steps=steps)), Request(length=256, steps=steps)))
    assert "one in 8 is fed all of its text, the others pieces" in told
    for request, least in (
        (Request(length=192, steps=1), 48),
        (Request(length=256, steps=1, near=(16,)), 48),
        (Request(length=256, steps=1), 49),
    ):
        monkeypatch.setattr(asking, "PIECES_OF", least)
        prepared = prepare(asking.checked(asked, request, None))
        assert asking.tuning(prepared, request).material.pieces is False
    monkeypatch.setattr(asking, "PIECES_OF", 48)
    assert asking.tuning(prepared, request).material.pieces is True
    own = loss.Weights(short=3.0)
    assert asking.tuning(prepared, dataclasses.replace(request, weights=own)).weights == own
    prepared.model.model.config.sliding_window = 16
    assert asking.tuning(prepared, request).material.pieces is False
