"""Every task: exact lengths, the same sample at every length, depths where they were asked for, a judge that judges."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from itertools import islice

import pytest

from ropewalk.errors import ExperimentError
from ropewalk.tasks import TASKS, Layout, depths, fillers
from ropewalk.tasks import words as vocabularies
from ropewalk.tasks.draft import Filler, around, found, listed
from ropewalk.tasks.fillers import coined_words, sentences, stream, vocabulary
from ropewalk.tasks.frame import Frame, chat_frame

LENGTHS = (640, 1280)
SAMPLES = 5


@pytest.fixture(scope="module")
def layout(words) -> Layout:
    return Layout(encode=lambda text: words(text, add_special_tokens=False)["input_ids"], bos_id=None)


@pytest.fixture(scope="module")
def laid(layout, words):
    """Drafts and prompts of every task at two lengths."""
    return {
        (name, length): [
            (draft := task.draft(3, place, depth, length), layout.lay(name, draft, length))
            for place, depth in enumerate(depths(SAMPLES))
        ]
        for name, task in TASKS.items()
        for length in LENGTHS
    }


@pytest.fixture(params=list(TASKS))
def name(request) -> str:
    return request.param


def test_there_are_thirteen():
    assert len(TASKS) == 13
    assert all(task.name == name for name, task in TASKS.items())


def test_prompt_and_budget_fill_the_length_to_the_token(name, laid):
    for length in LENGTHS:
        for _, prompt in laid[name, length]:
            assert len(prompt.ids) + prompt.new_tokens == length
            assert len(prompt.answer) < prompt.new_tokens


def test_everything_a_draft_says_stands_in_its_prompt(name, laid, words):
    for length in LENGTHS:
        for draft, prompt in laid[name, length]:
            text = words.decode(prompt.ids)
            assert text.startswith(draft.head)
            assert text.endswith(f"\n{draft.question}\n{draft.prefix}")
            for needle, count in Counter(needle.text for needle in draft.needles).items():
                assert text.count(needle) >= count
            assert words.decode(prompt.answer) == draft.answer


def test_the_answer_is_in_the_text_and_not_in_the_question(name, laid, words):
    for draft, prompt in laid[name, LENGTHS[0]]:
        text = words.decode(prompt.ids)
        before = text[: text.rindex(draft.question)]
        assert found(draft.references, before) == 1.0
        assert found(draft.references, f"{draft.head} {draft.question} {draft.prefix}") == 0.0


def test_samples_are_the_same_at_every_length_and_prompts_nest(name, laid):
    """The same needles, and what fills the shorter prompt begins what fills the longer one."""
    for (draft, short), (other, long) in zip(laid[name, LENGTHS[0]], laid[name, LENGTHS[1]], strict=True):
        assert (draft.references, draft.question, draft.depth) == (other.references, other.question, other.depth)
        assert {needle.text for needle in draft.needles} == {needle.text for needle in other.needles}
        assert len(short.ids) < len(long.ids)
        if draft.needles == other.needles:
            assert [n.depth for n in draft.needles] == [n.depth for n in other.needles]


def test_needles_stand_at_their_depths(name, laid):
    """Within a unit of filler, here of at most 130 tokens, of an even grid from the head to the question."""
    for length in LENGTHS:
        places = [[round(begin * length) for begin in prompt.needles] for _, prompt in laid[name, length]]
        assert all(begins == sorted(begins) for begins in places)
        if any(len(draft.needles) != 1 for draft, _ in laid[name, length]):
            continue
        (first,), *_, (last,) = places
        assert last - first > length // 3 or name == "multikey_codes"
        for (begin,), (draft, _) in zip(places, laid[name, length], strict=True):
            assert draft.depth == draft.needles[0].depth
            assert -130 <= begin - (first + draft.depth * (last - first)) <= 1


def test_seeds_and_samples_give_other_answers(name):
    task = TASKS[name]
    drawn = {(seed, i): task.draft(seed, i, 0.5, 640).references for seed in (0, 1) for i in range(30)}
    assert len(set(drawn.values())) == 60
    assert task.draft(0, 7, 0.5, 640) == task.draft(0, 7, 0.5, 640)


def test_the_judge_tells_right_from_wrong(name):
    task = TASKS[name]
    right, wrong = task.draft(0, 0, 0.5, 640), task.draft(0, 1, 0.5, 640)
    assert task.judge(right.references, right.answer) == 1.0
    assert task.judge(right.references, right.answer.upper() + ". And so on") == 1.0
    assert task.judge(right.references, wrong.answer) < 0.5
    assert task.judge(right.references, "") == 0.0
    assert task.judge(right.references, f" {right.references[0]}") == 1 / len(right.references)


def test_a_number_in_a_longer_number_is_not_found():
    assert found(["481392"], "14813925") == 0.0
    assert found(["481392"], "it is 481392.") == 1.0


def test_what_no_text_can_hold_is_refused_with_the_least_length(name, layout):
    draft = TASKS[name].draft(0, 0, 0.5, 64)
    with pytest.raises(
        ExperimentError, match=rf"64 tokens are too few for the task {name}, which takes (\d+)"
    ) as error:
        layout.lay(name, draft, 64)
    least = int(re.search(r"at least (\d+)", str(error.value))[1])
    assert len(layout.lay(name, draft, least).ids) < least
    with pytest.raises(ExperimentError):
        layout.lay(name, draft, least - 1)


def test_a_tokenizer_that_merges_pieces_is_found(layout):
    """One that makes one token of a full stop, a space and a word."""

    def merging(text: str) -> list[int]:
        return [ord(c) for c in text.replace(". The", "\u2603")]

    with pytest.raises(ExperimentError, match=r"merges ' The number of the amber' with the '\.' before it"):
        Layout(encode=merging, bos_id=None).lay("single_noise", TASKS["single_noise"].draft(0, 0, 0.5, 640), 640)


def test_bos_and_thinking_count(words):
    encode = lambda text: words(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    draft = TASKS["question"].draft(0, 0, 0.5, 640)
    plain = Layout(encode=encode, bos_id=None).lay("question", draft, 640)
    more = Layout(encode=encode, bos_id=7, thinking_tokens=100).lay("question", draft, 640)
    assert more.ids[0] == 7
    assert len(more.ids) == len(plain.ids) - 100
    assert more.new_tokens == plain.new_tokens + 100


def test_keys_are_all_different_and_never_shared():
    asked = [vocabularies.key(i, vocabularies.ASKED) for i in range(4000)]
    beside = [vocabularies.key(i, vocabularies.BESIDE) for i in range(8000)]
    assert len({*asked, *beside}) == 12000


def test_asked_values_stand_in_every_order_equally_often():
    ranks = Counter(sorted(around(depth, 4)).index(depth) for depth in depths(40))
    assert max(ranks.values()) - min(ranks.values()) <= 2


def test_every_beginning_of_a_coined_text_has_its_three_commonest_words():
    """From 12 units on: fewer do not fit a frame."""
    texts = list(islice(stream(Filler(kind="coined", seed="x")), 3000))
    counts: Counter[str] = Counter()
    for place, text in enumerate(texts, start=1):
        counts[text[1:]] += 1
        if place >= 12:
            four = counts.most_common(4)
            assert [word for word, _ in four[:3]] == coined_words("x")[:3]
            assert len({count for _, count in four[:3]} | {four[3][1] if len(four) > 3 else 0}) == 4
    assert 0.58 < counts[coined_words("x")[0]] / 3000 < 0.64


def test_common_words_come_more_often_than_any_other(laid, words):
    for length in LENGTHS:
        for draft, prompt in laid["common_words", length]:
            body = words.decode(prompt.ids)[len(draft.head) :].split("\nWhich")[0]
            counts = Counter(body.split())
            least = min(counts[word] for word in draft.references)
            assert max(count for word, count in counts.items() if word not in draft.references) < least


def test_invented_names_are_in_no_book():
    every = " ".join(sentences())
    books = set(re.findall(r"\w+", every))
    names = vocabularies.coined("0", 0, 500, vocabularies.PEOPLE) + vocabularies.coined(
        "0", 500, 500, vocabularies.PLACES
    )
    names += vocabularies.coined("0", 0, 500, vocabularies.MONTHS)
    assert len(set(names)) == 1500
    assert not books & set(names)
    assert not set(coined_words("y")) & set(vocabulary())


def test_questions_ask_for_places_and_for_days_of_no_calendar():
    drafts = [TASKS["question"].draft(3, place, 0.5, 640) for place in range(24)]
    days = [draft for draft in drafts if "On which day" in draft.question]
    assert 0 < len(days) < len(drafts)
    for draft in days:
        (day,) = draft.references
        assert re.fullmatch(r"\d{1,2} [A-Z][a-z]+(tide|uary|ember)", day)
        others = {needle.text.split(" on ")[1][:-1] for needle in draft.needles}
        assert len(others) == 4  # rivals have other days, of other months
        assert len({other.split()[1] for other in others}) == 4
        assert draft.answer == f" {day}"


def test_streams_are_nested_and_seeded():
    for kind in fillers.STREAMS:
        one = Filler(kind=kind, seed="1")
        first = list(islice(stream(one), 100))
        assert list(islice(stream(one), 300))[:100] == first
        assert all(text.startswith(" ") for text in first)
        seeded = kind not in ("noise", "book")
        assert (list(islice(stream(dataclasses.replace(one, seed="2")), 100)) != first) is seeded


def test_a_chat_template_stands_around_and_the_answer_is_begun(layout, words):
    frame = chat_frame(lambda text: f"<user>{text}<end><assistant>", "metrics.tasks.template=chat")
    draft = TASKS["single_noise"].draft(0, 0, 0.5, 640)
    prompt = dataclasses.replace(layout, frame=frame).lay("single_noise", draft, 640)
    text = words.decode(prompt.ids)
    assert text.startswith(f"<user>{draft.head}")
    assert text.endswith(f"{draft.question}<end><assistant>{draft.prefix}")
    thinks = dataclasses.replace(frame, prefixed=False)
    silent = dataclasses.replace(layout, frame=thinks).lay("single_noise", draft, 640)
    assert words.decode(silent.ids).endswith("<end><assistant>")


@pytest.mark.parametrize(
    ("render", "why"),
    [
        (lambda text: "hello", "shows the user's message 0 times"),
        (lambda text: f"<user>{text}", "has no generation prompt"),
    ],
)
def test_templates_that_cannot_ask_are_refused(render, why):
    with pytest.raises(ExperimentError, match=why):
        chat_frame(render, "metrics.tasks.template=chat")


def test_lists_read_as_lists():
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert Frame().after == "\n"
