"""Tokens: ids, offsets and bytes of documents, on any Unicode."""

import hashlib
import logging
import tracemalloc

import numpy as np
import pytest
from corpus_texts import document, texts, unhurried
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from ropewalk.corpus import Tokens, load_documents, require_length, that_fill, tokenize, tokenize_all
from ropewalk.corpus import tokens as tokens_module
from ropewalk.corpus.documents import local_document, text_sha256
from ropewalk.errors import CorpusError


@pytest.fixture(scope="module", params=["plain", "bos"])
def tokenizer(request, plain_tokenizer, bos_tokenizer):
    return {"plain": plain_tokenizer, "bos": bos_tokenizer}[request.param]


@unhurried
@given(text=texts)
def test_offsets_walk_through_the_text(tokenizer, text):
    tokens = tokenize(tokenizer, document(text))
    assert tokenizer.decode(tokens.ids[tokens.bos :], clean_up_tokenization_spaces=False) == text
    assert (tokens.starts <= tokens.ends).all()
    assert (np.diff(tokens.starts) >= 0).all()
    assert (np.diff(tokens.ends) >= 0).all()
    assert (tokens.starts[int(tokens.bos)], tokens.ends[-1]) == (0, len(text))
    assert {a.dtype.name for a in (tokens.ids, tokens.starts, tokens.ends)} == {"int32"}


@unhurried
@given(text=texts, data=st.data())
def test_bytes_are_those_of_the_text_between(tokenizer, text, data):
    tokens = tokenize(tokenizer, document(text))
    covered = tokens.utf8_bytes()
    assert covered.dtype == np.int32
    assert covered.shape == tokens.ids.shape
    assert covered.min() >= 0
    assert covered.sum() == len(text.encode())
    length = data.draw(st.integers(1, len(tokens)))
    expected = len(text[tokens.ends[0] : tokens.ends[length - 1]].encode())
    assert covered[1:length].sum() == expected


@unhurried
@given(text=texts)
def test_byte_level_tokens_cover_their_own_bytes_up_to_a_cut_character(plain_tokenizer, text):
    tokens = tokenize(plain_tokenizer, document(text))
    own = np.cumsum([len(piece) for piece in plain_tokenizer.convert_ids_to_tokens(tokens.ids.tolist())])
    ahead = np.cumsum(tokens.utf8_bytes()) - own  # a byte-level token has one character per byte
    assert ((ahead >= 0) & (ahead <= 3)).all()
    assert ahead[-1] == 0


@pytest.mark.parametrize("character", "\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff")
def test_bytes_at_the_borders_of_utf8(byte_tokenizer, character):
    tokens = tokenize(byte_tokenizer, document(f"a{character}b"))
    assert tokens.utf8_bytes().tolist() == [1, len(character.encode()), *[0] * (len(character.encode()) - 1), 1]


def test_bytes_without_and_with_bos(plain_tokenizer, bos_tokenizer):
    text = "🙂 key"
    plain = tokenize(plain_tokenizer, document(text))
    assert plain.utf8_bytes().tolist() == [4, 4]  # an emoji the tokenizer knows, then " key"
    bos = tokenize(bos_tokenizer, document(text))
    assert bos.utf8_bytes().tolist() == [0, 4, 4]


@unhurried
@given(text=texts)
def test_bos_is_prepended_iff_the_default_encoding_does(plain_tokenizer, bos_tokenizer, text):
    plain, bos = tokenize(plain_tokenizer, document(text)), tokenize(bos_tokenizer, document(text))
    assert (plain.bos, bos.bos) == (False, True)
    assert plain.ids.tolist() == plain_tokenizer(text)["input_ids"]
    assert bos.ids.tolist() == bos_tokenizer(text)["input_ids"] == [0, *plain.ids]
    assert (bos.starts[0], bos.ends[0]) == (0, 0)
    assert bos.starts[1:].tolist() == plain.starts.tolist()
    assert bos.ends[1:].tolist() == plain.ends.tolist()


def test_bos_can_be_asked_for_and_refused(plain_tokenizer, bos_tokenizer):
    assert tokenize(plain_tokenizer, document("key"), bos=True).ids[0] == plain_tokenizer.bos_token_id
    assert not tokenize(bos_tokenizer, document("key"), bos=False).bos
    with pytest.raises(CorpusError) as refusal:
        tokenize(ByT5Tokenizer(), document("key"), bos=True)
    assert str(refusal.value) == "bos=True, but this tokenizer has no BOS token; use bos: auto."


def test_no_eos_and_no_other_special_tokens():
    tokens = tokenize(ByT5Tokenizer(), document("ab"))
    assert tokens.ids.tolist() == [ord("a") + 3, ord("b") + 3]  # its default encoding appends </s>


def test_a_slow_tokenizer_gives_no_offsets():
    tokens = tokenize(ByT5Tokenizer(), document("ab"))
    assert (tokens.starts, tokens.ends, tokens.utf8_bytes()) == (None, None, None)


def test_a_long_document_makes_no_noise(plain_tokenizer, caplog, monkeypatch):
    monkeypatch.setattr(plain_tokenizer, "model_max_length", 8)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="transformers")
    assert len(tokenize(plain_tokenizer, document(" key" * 100))) == 100
    assert not caplog.records
    plain_tokenizer(" key" * 100)
    assert "longer than the specified maximum" in caplog.text  # or this test could not fail


def test_tokens_are_read_only_and_checked(plain_tokenizer):
    tokens = tokenize(plain_tokenizer, document("the key"))
    with pytest.raises(ValueError, match="read-only"):
        tokens.ids[0] = 1
    with pytest.raises(ValueError, match=r"^starts has shape \(1,\), but there are 2 tokens$"):
        Tokens(document=tokens.document, ids=np.arange(2), starts=np.arange(1), ends=np.arange(2), bos=False)
    with pytest.raises(ValueError, match=r"^starts and ends are given together or not at all$"):
        Tokens(document=tokens.document, ids=np.arange(2), starts=None, ends=np.arange(2), bos=False)


def test_a_short_document_is_refused(plain_tokenizer):
    tokens = tokenize(plain_tokenizer, document(" key" * 10))
    require_length(tokens, 10)
    with pytest.raises(CorpusError) as refusal:
        require_length(tokens, 11)
    assert str(refusal.value) == (
        "document 'a' has 10 tokens under this tokenizer, fewer than the longest length 11; lower the longest length "
        "to 10, lower count, or choose longer documents."
    )


def test_documents_that_fill(plain_tokenizer):
    tokens = [tokenize(plain_tokenizer, document(" key" * n, id=f"d{n}")) for n in (3, 7, 5)]
    assert [t.document.id for t in that_fill(tokens, 5)] == ["d7", "d5"]
    with pytest.raises(CorpusError) as refusal:
        that_fill(tokens, 8)
    assert str(refusal.value) == (
        "no document fills the longest length 8: the longest of 3, 'd7', has 7 tokens under this tokenizer; "
        "lower the longest length or choose longer documents."
    )


@pytest.mark.parametrize("upto", [1, 50, 700])
def test_a_beginning_has_the_tokens_of_the_whole(plain_tokenizer, bos_tokenizer, byte_tokenizer, upto, monkeypatch):
    """Short margins, so that the cut falls inside the texts; one text is so sparse that all of it must be read."""
    monkeypatch.setattr(tokens_module, "MARGIN", 64)
    texts = [" the key to the sea" * 400, "the key", "   " * 3000 + "key", "é the sea, the key\n" * 300]
    for tokenizer in (plain_tokenizer, bos_tokenizer, byte_tokenizer):
        documents = [document(text, id=str(index)) for index, text in enumerate(texts)]
        some, every = (tokenize_all(tokenizer, documents, upto=limit) for limit in (upto, None))
        for one, other in zip(some, every, strict=True):
            assert len(one) == min(upto, len(other))
            for name in ("ids", "starts", "ends"):
                assert (getattr(one, name) == getattr(other, name)[:upto]).all()


def test_a_long_text_is_not_read_to_its_end(plain_tokenizer, monkeypatch):
    read = []
    plain_tokenizer_call = type(plain_tokenizer).__call__
    monkeypatch.setattr(
        type(plain_tokenizer),
        "__call__",
        lambda self, text, **options: read.extend(map(len, text)) or plain_tokenizer_call(self, text, **options),
    )
    (found,) = tokenize_all(plain_tokenizer, [document("the key to the sea " * 5000)], bos=False, upto=100)
    assert len(found) == 100
    assert sum(read) == tokens_module.MARGIN + 100 * tokens_module.CHARACTERS


def test_the_beginning_of_a_long_text_costs_no_memory_for_the_rest(words, tmp_path):
    """Read, hashed, tokenised and counted: little more than its bytes and its text, once each."""
    path, size = tmp_path / "long.txt", 16_000_000
    path.write_text("Ein Tau ist länger als sein Garn. " * (size // 34), encoding="utf-8")
    tracemalloc.start()
    try:
        (document,) = load_documents({"files": [str(path)]})
        (tokens,) = tokenize_all(words, [document], upto=64)
        covered = tokens.utf8_bytes()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3.5 * size  # reading and decoding take three; the rest used to take thirty
    assert document.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    beginning = tokenize(words, local_document(document.text[:2000], id="a", title="a", kind="file", source="a"))
    assert tokens.ids.tolist() == beginning.ids[:64].tolist()
    assert covered.tolist() == beginning.utf8_bytes()[:64].tolist()


@pytest.mark.parametrize("at", [0, 2**20 - 1, 2**20, 2**20 + 5])
def test_half_a_surrogate_pair_is_found_wherever_it_is(at):
    with pytest.raises(CorpusError, match=rf"has half a surrogate pair at character {at}, which UTF-8 cannot hold"):
        text_sha256("a" * at + "\ud800" + "b", place="x")
