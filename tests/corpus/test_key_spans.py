"""Key spans: which tokens of another tokenizer count, against a slow transcription and the reference package."""

import re

import numpy as np
import pytest
import torch
from corpus_texts import document, texts, unhurried
from hypothesis import given
from hypothesis import strategies as st
from longppl.longppl import cal_overlap, merge_intervals
from transformers import ByT5Tokenizer

from ropewalk.corpus import KeySpans, Tokens, key_token_mask, merge_adjacent, tokenize
from ropewalk.errors import CorpusError

SETTING = {"evaluator": "e", "trunc_len": 8, "stride": 2, "alpha": 2.0, "beta": -2.0}


def key_spans(text: str, spans) -> KeySpans:
    return KeySpans(**SETTING, document_sha256=document(text).sha256, spans=tuple(spans))


@st.composite
def texts_and_spans(draw):
    """A text and some spans in it, sorted and apart."""
    text = draw(texts)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return text, tuple(zip(cuts[::2], cuts[1::2], strict=False))


@unhurried
@given(text_and_spans=texts_and_spans())
def test_a_token_counts_iff_it_lies_wholly_inside_one_span(bos_tokenizer, plain_tokenizer, text_and_spans):
    text, spans = text_and_spans
    for tokenizer in (bos_tokenizer, plain_tokenizer):
        tokens = tokenize(tokenizer, document(text))
        slow = [any(a <= start and end <= b for a, b in spans) for start, end in offsets(tokens)]
        mask = key_token_mask(tokens, key_spans(text, spans))
        assert mask.dtype == bool
        assert mask.tolist() == slow[1:]


@unhurried
@given(text_and_spans=texts_and_spans())
def test_the_reference_finds_the_same_tokens(plain_tokenizer, text_and_spans):
    text, spans = text_and_spans
    tokens = tokenize(plain_tokenizer, document(text))
    reference = cal_overlap(offsets(tokens), [list(span) for span in spans])
    ours = np.flatnonzero(key_token_mask(tokens, key_spans(text, spans)))
    assert [index for index in reference if index >= 0] == ours.tolist()  # -1 is its token 0, which nothing scores


@unhurried
@given(text=texts, data=st.data())
def test_key_tokens_of_one_tokenizer_select_in_another_what_the_reference_selects(
    plain_tokenizer, bos_tokenizer, byte_tokenizer, text, data
):
    tokenizers = (plain_tokenizer, bos_tokenizer, byte_tokenizer)
    evaluated, evaluator = (tokenize(data.draw(st.sampled_from(tokenizers)), document(text)) for _ in range(2))
    key = sorted(data.draw(st.sets(st.integers(int(evaluator.bos), len(evaluator) - 1), max_size=8)))
    spans = merge_adjacent(evaluator.starts[key], evaluator.ends[key])
    theirs = merge_intervals(torch.tensor(offsets(evaluator))[key].reshape(-1, 2)).tolist()
    reference = cal_overlap(offsets(evaluated), theirs)
    ours = np.flatnonzero(key_token_mask(evaluated, key_spans(text, spans)))
    assert [index for index in reference if index >= 0] == ours.tolist()
    again = np.flatnonzero(key_token_mask(evaluator, key_spans(text, spans)))
    assert set(key) - {0} <= set((again + 1).tolist())


def offsets(tokens: Tokens) -> list[tuple[int, int]]:
    return list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True))


def test_all_and_nothing(plain_tokenizer):
    tokens = tokenize(plain_tokenizer, document("the key to the sea"))
    assert key_token_mask(tokens, key_spans("the key to the sea", [(0, 18)])).all()
    nothing = key_token_mask(tokens, key_spans("the key to the sea", []))
    assert nothing.shape == (len(tokens) - 1,)
    assert not nothing.any()


def test_one_character_decides(plain_tokenizer):
    """The twin of the laws above: a span one character shorter at either end loses the token."""
    text = "to the key"
    tokens = tokenize(plain_tokenizer, document(text))
    assert (int(tokens.starts[-1]), int(tokens.ends[-1])) == (6, 10)
    found = [key_token_mask(tokens, key_spans(text, [span]))[-1] for span in ((6, 10), (7, 10), (6, 9), (5, 10))]
    assert found == [True, False, False, True]


@pytest.mark.parametrize(
    ("tokens", "spans"),
    [
        ([], ()),
        ([(1, 3), (3, 4)], ((1, 4),)),
        ([(1, 3), (4, 6)], ((1, 3), (4, 6))),
        ([(5, 6), (5, 6), (6, 8)], ((5, 8),)),  # the bytes of one emoji, then a neighbour
        ([(6, 8), (1, 3), (3, 6)], ((1, 8),)),
        ([(0, 9), (2, 3)], ((0, 9),)),
        ([(2, 2)], ((2, 2),)),
    ],
)
def test_merging(tokens, spans):
    starts, ends = np.array(tokens, dtype=int).reshape(-1, 2).T
    assert merge_adjacent(starts, ends) == spans


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"spans": ((3, 5), (4, 9))},
            "starts before or where the one before it ends (5): spans must be sorted, merged",
        ),
        ({"spans": ((3, 5), (5, 9))}, "span [5, 9] starts before or where the one before it ends (5): spans must be"),
        ({"spans": ((7, 9), (1, 2))}, "span [1, 2] starts before or where the one before it ends (9): spans must be"),
        ({"spans": ((-1, 2),)}, "span [-1, 2] must have 0 <= start <= end; make the file anew."),
        ({"spans": ((4, 2),)}, "span [4, 2] must have 0 <= start <= end; make the file anew."),
        ({"trunc_len": 0}, "trunc_len=0 must be at least 1 token."),
        ({"stride": -1}, "stride=-1 must be at least 1 token."),
        ({"alpha": float("nan")}, "alpha=nan must be a finite number of nats."),
        ({"beta": float("-inf")}, "beta=-inf must be a finite number of nats."),
    ],
)
def test_spans_that_cannot_be_are_refused(change, message):
    sha256 = document("text").sha256
    with pytest.raises(CorpusError) as refusal:
        KeySpans(**{**SETTING, "document_sha256": sha256, "spans": (), **change})
    assert str(refusal.value).startswith(f"key spans of document {sha256[:16]}: ")
    assert message in str(refusal.value)


def test_a_hash_that_is_none_is_refused():
    with pytest.raises(CorpusError, match=r"^key spans: document sha256 'emma' must be 64 hex digits\.$"):
        KeySpans(**SETTING, document_sha256="emma", spans=())


def test_spans_of_another_document_are_refused(plain_tokenizer):
    tokens, other = tokenize(plain_tokenizer, document("the key")), key_spans("the pass", [])
    with pytest.raises(CorpusError) as refusal:
        key_token_mask(tokens, other)
    assert str(refusal.value) == (
        f"document 'a': these key spans are of another text (sha256 {other.document_sha256}, expected "
        f"{tokens.document.sha256}); compute spans for this document or choose the documents they were made for."
    )


def test_spans_beyond_the_end_are_refused(plain_tokenizer):
    tokens = tokenize(plain_tokenizer, document("the key"))
    with pytest.raises(CorpusError) as refusal:
        key_token_mask(tokens, key_spans("the key", [(3, 8)]))
    assert str(refusal.value) == ("document 'a': key span [3, 8] ends beyond its 7 characters; make the spans anew.")


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(CorpusError, match=re.escape("use its fast version (tokenizer.json) or leave longppl out.")):
        key_token_mask(tokenize(ByT5Tokenizer(), document("the key")), key_spans("the key", [(3, 7)]))
