"""Passkey prompts, token by token and line by line, and when an answer counts."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from units_for_tests import material, prompts

import checkpoints
from ropewalk.corpus import tokenize
from ropewalk.corpus.documents import local_document
from ropewalk.errors import ExperimentError
from ropewalk.experiment import prepare
from ropewalk.experiment.prepare import encoder
from ropewalk.metrics import passkey
from ropewalk.metrics.metric import OfPrompt
from ropewalk.metrics.passkey import Passkey

STREAM = " ".join(["".join(passkey.FILLER)] * 60)
SHORTEST = 192  # tokens of a prompt without filler under the tests' tokenizer, within a few


@pytest.fixture(scope="module")
def encode(words):
    return encoder(words)


@dataclass(frozen=True)
class Trial:
    """A prompt with what the tests ask of it."""

    index: int
    key: str
    depth: float
    ids: np.ndarray
    answer_tokens: int


def seen(built):
    return [
        Trial(index, prompt.facts["key"], prompt.facts["depth"], prompt.request.ids, prompt.request.answer_tokens)
        for index, prompt in enumerate(built)
    ]


def build(encode, length=400, trials=5, **changes):
    return seen(prompts(encode, length, trials, **changes))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(length=st.integers(SHORTEST + 30, 1500), trials=st.integers(1, 7), seed=st.integers(0, 9), bos=st.booleans())
def test_every_prompt_has_exactly_its_length_and_five_lines(encode, words, length, trials, seed, bos):
    built = build(encode, length, trials, seed=seed, bos_id=words.bos_token_id if bos else None)
    assert [trial.index for trial in built] == list(range(trials))
    for trial in built:
        assert trial.ids.shape == (length,)
        assert trial.ids.dtype == np.int32
        assert (trial.ids == words.bos_token_id).sum() == bos
        assert not bos or trial.ids[0] == words.bos_token_id
        lines = words.decode(trial.ids[bos:]).split("\n")
        assert lines[0] == passkey.INSTRUCTION
        assert STREAM.startswith(lines[1])
        assert lines[1] == "" or lines[1].endswith((".", ". "))
        assert lines[2] == f"The pass key is {trial.key}. Remember it. {trial.key} is the pass key."
        assert STREAM.startswith(lines[3])
        assert lines[4] == f"What is the pass key? The pass key is {trial.key}"
        assert len(lines) == 5
        assert re.fullmatch(r"[1-9]\d{4}", trial.key)
        assert words.decode(trial.ids[-trial.answer_tokens :]) == f" {trial.key}"


@pytest.mark.parametrize("kept", [64, 128, 300])
def test_a_cut_prompt_holds_a_key_that_stands_in_what_is_left(encode, words, kept):
    asked = prompts(encode, 600, 60)
    shares = []
    for prompt in asked:
        left = words.decode(prompt.request.ids[-kept : -prompt.request.answer_tokens])
        shares.append(passkey.held(Passkey(), prompt.facts, 600, kept))
        assert shares[-1] == (f" {prompt.facts['key']} is the pass key." in left)
    assert set(shares) == {True, False}
    assert passkey.held(Passkey(), {"key": "1", "depth": 0.9}, 600, kept) is None


def test_the_text_as_the_protocol_says_it(encode, words):
    first, _, last = build(encode, length=300, trials=3)
    assert words.decode(first.ids).startswith(
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
        "I will quiz you about the important information there.\n\nThe pass key is "
    )
    assert ". Remember it. " in words.decode(last.ids)
    assert "\nThe grass is green. The sky is blue. The sun is yellow. Here we go. There and back again." in (
        words.decode(last.ids)
    )
    assert words.decode(last.ids).endswith(f"\nWhat is the pass key? The pass key is {last.key}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(length=st.integers(SHORTEST + 200, 9000), trials=st.integers(2, 25))
def test_needles_stand_on_an_even_grid(encode, words, length, trials):
    built = build(encode, length, trials)
    asked = np.linspace(0, 1, trials)
    longest = max(len(encode(" " + sentence.strip())) for sentence in passkey.FILLER)
    for trial, depth in zip(built, asked, strict=True):
        _, before, _, after, _ = words.decode(trial.ids).split("\n")
        room = len(encode(before)) + len(encode(after))
        long = length >= max(passkey.LONG, trials) * (length - room)
        if length == max(passkey.LONG, trials) * (length - room - 2) or long != (
            length >= max(passkey.LONG, trials) * (length - room - 2)
        ):  # decoding loses up to two tokens of the frame, so which of the two rules held cannot be told here
            continue
        target = min(depth * length, room) if long else depth * room
        assert -2 <= target - len(encode(before)) <= longest + 2  # from below, within a sentence


@pytest.mark.parametrize("length", [256, 4096])
def test_a_depth_is_where_the_needle_stands(encode, words, length):
    """Not where it was asked for: what stands around the filler keeps short prompts' needles from both ends."""
    built = build(encode, length, 7)
    for trial in built:
        begins = round(trial.depth * length)
        assert words.decode(trial.ids[begins:]).lstrip().startswith(passkey.needle(trial.key))
    assert (built[0].depth > 0.1) == (length == 256)
    assert built[-1].depth < 1


def test_more_trials_than_places_are_refused(encode):
    """1,000 trials at 256 tokens were 282 different prompts, each of which counted."""
    with pytest.raises(ExperimentError) as refusal:
        build(encode, 256, 1000)
    assert str(refusal.value) == (
        "passkey: 1000 trials at 256 tokens would repeat prompts, which have 257 places for a needle; ask for at most "
        "257 trials, or for no length under 999."
    )
    prompts = [trial.ids.tobytes() for trial in build(encode, 256, 257)]
    assert len(set(prompts)) == 257


def test_keys_of_a_length_are_all_different():
    assert len(set(passkey.keys(4000, 4096, 0))) == 4000  # 90,000 keys: some 90 of 4,000 draws repeat


def test_doubled_lengths_continue_half_of_the_shorter_prompts(encode):
    short, long = build(encode, 4096, 20), build(encode, 8192, 20)
    question = len(encode("\n" + passkey.QUESTION)) + short[0].answer_tokens
    for index in range(10):
        one, other = short[2 * index], long[index]
        assert one.key == other.key
        assert (one.ids[:-question] == other.ids[: len(one.ids) - question]).all()


def test_one_trial_stands_in_the_middle():
    assert passkey.depths(1) == [0.5]
    assert passkey.depths(3) == [0.0, 0.5, 1.0]


def test_trials_of_a_length_align(encode):
    built = build(encode, length=500, trials=20)
    assert len({trial.answer_tokens for trial in built}) == 1
    question = len(encode("\n" + passkey.QUESTION))
    tails = {tuple(trial.ids[-question - trial.answer_tokens : -trial.answer_tokens]) for trial in built}
    assert len(tails) == 1
    first, *rest = built
    for trial in rest:  # header and filler are shared up to the first needle
        differs = int(np.flatnonzero(first.ids != trial.ids)[0])
        assert differs >= len(encode(passkey.INSTRUCTION + "\n"))


def test_keys_come_from_seed_and_place_alone():
    assert passkey.keys(20, 4096, 0) == passkey.keys(20, 4096, 0)
    assert passkey.keys(20, 4096, 0)[::2] == passkey.keys(20, 8192, 0)[:10]
    assert len({tuple(passkey.keys(20, length, seed)) for length in (4096, 8192) for seed in (0, 1)}) == 4
    assert len(set(passkey.keys(20, 4096, 0))) == 20


def test_a_prompt_that_does_not_fit_is_refused(encode):
    with pytest.raises(ExperimentError) as refusal:
        build(encode, length=64)
    said = re.fullmatch(
        r"lengths: 64 tokens are too few for a passkey prompt of (\d+) under this tokenizer; raise the length to at "
        r"least (\d+) or drop the metric passkey\.",
        str(refusal.value),
    )
    assert said is not None
    least = int(said[1])
    assert said[2] == said[1]
    assert {len(trial.ids) for trial in build(encode, length=least)} == {least}
    with pytest.raises(ExperimentError):
        build(encode, length=least - 1)


def test_essay_haystack_is_the_text_of_a_document(encode, words):
    text = checkpoints.prose(3)
    prose = encode(text)
    _, middle, last = build(encode, length=400, trials=3, haystack=prose)
    _, before, _, after, _ = words.decode(middle.ids).split("\n")
    assert text.startswith(before)
    assert text.startswith(after)
    assert abs(len(encode(before)) - len(encode(after))) <= 2
    assert words.decode(last.ids).split("\n")[3] == ""
    with pytest.raises(ExperimentError) as refusal:
        build(encode, length=400, haystack=prose[:20])
    assert re.fullmatch(
        r"passkey haystack: 20 tokens of prose cannot fill \d+; use a longer document\.", str(refusal.value)
    )


class TestChatTemplate:
    """The prompt inside a chat template, the assistant's turn begun."""

    def build(self, tokenizer, **changes):
        document = local_document(checkpoints.prose(3), id="a", title="a", kind="file", source="memory")
        asked = Passkey(trials=2, template="chat", **changes)
        return seen(passkey.prompts(asked, prepare.material(tokenizer, tokenize(tokenizer, document), 0), 400))

    def test_the_template_is_around_it(self, words_bos, monkeypatch):
        monkeypatch.setattr(words_bos, "chat_template", "{{ bos_token }}" + checkpoints.CHAT_TEMPLATE)
        for trial in self.build(words_bos):
            text = words_bos.decode(trial.ids)
            assert text.startswith("<s><|user|>There is an important info")
            assert (trial.ids == words_bos.bos_token_id).sum() == 1  # the template's own, not a second one
            asked = "\nWhat is the pass key?<|end|>\n<|assistant|>The pass key is"
            assert text.endswith(f"{asked} {trial.key}")
            assert len(trial.ids) == 400

    def test_a_tokenizer_without_one_is_refused(self, words):
        with pytest.raises(ExperimentError) as refusal:
            self.build(words)
        assert str(refusal.value) == (
            "passkey.template=chat: this model's tokenizer has no chat template; use template: none."
        )

    @pytest.mark.parametrize(("template", "times"), [("{{ bos_token }}", 0), ("{{ messages[0]['content'] }}" * 2, 2)])
    def test_a_template_that_does_not_show_the_message_once_is_refused(self, words_bos, monkeypatch, template, times):
        monkeypatch.setattr(words_bos, "chat_template", template)
        with pytest.raises(ExperimentError) as refusal:
            self.build(words_bos)
        assert str(refusal.value) == (
            f"passkey.template=chat: this tokenizer's chat template shows the user's message {times} times, and once "
            "is needed; use template: none."
        )


def answered(text, *, key="321", answer=None, predicted=()):
    return OfPrompt(unit="0", facts={"key": key}, answer=answer, predicted=predicted, nll=None, text=text)


@pytest.mark.parametrize(
    ("predicted", "after", "expected"),
    [
        ([5, 6, 7, 1], ".", True),
        ([5, 6, 7, 1], "", True),
        ([5, 6, 7, 1], " 4", True),
        ([5, 6, 7, 1], "4", False),
        ([5, 6, 8, 1], ".", False),
        ([4, 6, 7, 1], ".", False),
    ],
)
def test_exact_needs_every_token_and_no_digit_after(predicted, after, expected):
    assert passkey.found(answered(after, answer=[5, 6, 7], predicted=predicted)) is expected


class TestYarnProtocol:
    """YaRN's own prompt and judge (github.com/jquesnelle/yarn, eval/passkey.py)."""

    def build(self, words, length, trials):
        whole = material(None, encode_whole=lambda text: words(text, verbose=False)["input_ids"])
        return passkey.prompts(Passkey(trials=trials, protocol="yarn"), whole, length)

    def drawn(self, trials, seed=0):
        return passkey.drawn(Passkey(trials=trials, protocol="yarn"), 4096, seed)

    def test_prompts_are_as_long_as_they_may_be(self, words):
        for length in (250, 400, 700):
            for prompt in self.build(words, length, 4):
                text = words.decode(prompt.request.ids)
                lines = text.split("\n")
                key = prompt.facts["key"]
                assert len(lines) == 5
                assert lines[0] == passkey.INSTRUCTION
                assert lines[2] == passkey.needle(key)
                assert lines[4] == passkey.QUESTION
                assert STREAM.startswith(lines[1])
                assert STREAM.startswith(lines[3])
                filler = len(lines[1]) + len(lines[3])
                assert filler % 128 == 0
                assert prompt.facts["depth"] == text.index(lines[2]) / len(text)
                assert len(prompt.request.ids) <= length
                assert prompt.request.new_tokens == 10
                more = STREAM[: len(lines[3]) + 128]
                longer = "\n".join([*lines[:3], more, lines[4]])
                assert len(words(longer)["input_ids"]) > length

    def test_keys_are_1_to_50000_and_places_uniform(self):
        drawn = self.drawn(2000)
        keys, places = [int(key) for key, _ in drawn], [place for _, place in drawn]
        assert 1 <= min(keys) < 100
        assert 49_900 < max(keys) <= 50_000
        assert np.histogram(places, 4, (0, 1))[0].min() > 440
        assert self.drawn(5) == drawn[:5]
        assert self.drawn(5, seed=1) != drawn[:5]

    def test_too_short_is_refused(self, words):
        with pytest.raises(ExperimentError) as refusal:
            self.build(words, 64, 1)
        assert str(refusal.value) == (
            "lengths: 64 tokens are too few for YaRN's passkey prompt under this tokenizer; raise the length or drop "
            "the metric passkey."
        )

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (" 321.", True),
            (" a 321 and 5", True),
            ("321", True),
            (" 0321", True),
            (" 3210", False),
            (" 5, 321", False),
            (" none", False),
            ("", False),
        ],
    )
    def test_the_first_integer_counts(self, text, expected):
        assert passkey.found(answered(text)) is expected
