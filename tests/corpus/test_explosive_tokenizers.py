"""Tokenizers and chat templates of others that take time or memory without end are refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ropewalk.corpus import tokenize, tried
from ropewalk.corpus.documents import local_document
from ropewalk.errors import ModelError
from ropewalk.models import ModelSpec
from ropewalk.models.load import read_tokenizer


def made(**parts: Any) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(backend, name, part)
    return backend


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)
    ])  # fmt: skip


GROWS = normalizers.Sequence([normalizers.Replace("e", "ee")] * 36)
EXPLOSIVE = {
    "backtracking": made(pre_tokenizer=split(r"(a+)+$|(x+x+)+y")),
    "polynomial": made(pre_tokenizer=split(r"x*x*x*x*[^xe.]{3}")),
    "replacements": made(normalizer=GROWS),
    "replacements by expression": made(normalizer=normalizers.Replace(Regex("."), "." * 10**7)),
    "decoder": made(decoder=decoders.Sequence([decoders.Replace("e", "ee")] * 36)),
}
TEXT = "e" * 40 + "x" * 3000 + "."


@pytest.mark.parametrize("name", EXPLOSIVE)
def test_a_tokenizer_that_explodes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tried, "SECONDS", 0.4)
    document = local_document(TEXT, id="d", title="d", kind="file", source="d")
    with pytest.raises(ModelError, match=r"its tokenizer does not read the text within its bounds \(.+\); mend its"):
        tokenize(PreTrainedTokenizerFast(tokenizer_object=EXPLOSIVE[name]), document)


def test_one_that_explodes_when_it_is_loaded(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added tokens are normalised then; transformers takes other names than tokenizer.json too."""
    monkeypatch.setattr(tried, "SECONDS", 0.4)
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    parts = json.loads((model / "tokenizer.json").read_text())
    parts["normalizer"] = json.loads(made(normalizer=GROWS).to_str())["normalizer"]
    parts["added_tokens"].append({"id": 9999, "content": "e", "single_word": False, "lstrip": False, "rstrip": False,
                                  "normalized": True, "special": False})  # fmt: skip
    (model / "tokenizer.4.0.json").write_text(json.dumps(parts))
    with pytest.raises(ModelError, match="does not read the text within its bounds"):
        read_tokenizer(ModelSpec(id=str(model)))


HARMLESS = {
    "byte level": made(),
    "digits": made(pre_tokenizer=split(r"\p{N}")),
    "sentencepiece": made(
        normalizer=normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]),
        decoder=decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]),
    ),
    "bos": made(post_processor=processors.TemplateProcessing(single="! $A", special_tokens=[("!", 0)])),
}
TRIED = EXPLOSIVE | {
    "words": made(pre_tokenizer=split(r"\p{L}+")),
    "pieces of words": made(model=models.WordPiece(vocab={"a": 0}, unk_token="a")),
    "a long template": made(post_processor=processors.TemplateProcessing(single="$A" + " $A" * 9, special_tokens=[])),
}


def test_what_cannot_explode_is_not_tried() -> None:
    assert [name for name, each in HARMLESS.items() if not tried.harmless(each.to_str())] == []
    assert [name for name, each in TRIED.items() if tried.harmless(each.to_str())] == []
    assert not any(map(tried.harmless, ("", "[]", "{}", "[" * 10**5, '{"model": {"type": ["BPE"]}}')))


def test_what_is_tried_and_ends_reads_as_ever() -> None:
    document = local_document("some words, and 12 more", id="d", title="d", kind="file", source="d")
    words = PreTrainedTokenizerFast(tokenizer_object=TRIED["words"])
    assert tokenize(words, document).ids.tolist() == words(document.text)["input_ids"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 10 ** (10 ** 9) }}", "more than 1 s"),  # which no signal would interrupt
        ("{{ 'a' * 10 ** 11 }}", "too much memory"),
        ("{{ 'a' * 10 ** 7 }}", "ValueError: it makes 10000000 characters of one message"),
    ],
)
def test_a_chat_template_that_explodes(template: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tried, "SECONDS", 1.0)
    words = PreTrainedTokenizerFast(tokenizer_object=made(), chat_template=template)
    with pytest.raises(ModelError) as caught:
        tried.rendered(words, "hello")
    assert "its chat template cannot be used (" + reason in str(caught.value)


def test_a_chat_template_that_ends_is_rendered_as_transformers_does() -> None:
    template = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m['content'] | trim }}{% endfor %}"
    template += "{% if add_generation_prompt %}<assistant>{% endif %}"
    words = PreTrainedTokenizerFast(tokenizer_object=made(), chat_template=template, bos_token="!")
    message = [{"role": "user", "content": "hello "}]
    stock = words.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert tried.rendered(words, "hello ") == stock == "!<user>hello<assistant>"


def test_libraries_that_hold_many_addresses_leave_a_chat_template_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a GPU do: the limit is of what the template takes."""
    (tmp_path / "sitecustomize.py").write_text("import mmap\nheld = mmap.mmap(-1, 3 * 2**30)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = PreTrainedTokenizerFast(tokenizer_object=made(), chat_template="{{ messages[0].content }}!")
    assert tried.rendered(words, "held") == "held!"


def test_a_chat_template_is_rendered_once_for_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def confined(job: str, given: Any, seconds: float) -> str:
        asked.append(given["template"])
        return f"{len(asked)} {given['messages'][0]['content']} {given['special_tokens']}"

    monkeypatch.setattr(tried, "confined", confined)
    tried._rendered.cache_clear()
    words = PreTrainedTokenizerFast(tokenizer_object=made(), chat_template="one", bos_token="!")
    first = [tried.rendered(words, "hello") for _ in range(3)]
    assert (asked, len(set(first))) == (["one"], 1)
    assert tried.rendered(words, "hullo") != first[0]  # whatever it depends on makes another text
    words.chat_template = "two"
    tried.rendered(words, "hello")
    words.bos_token = "?"
    tried.rendered(words, "hello")
    assert asked == ["one", "one", "two", "two"]
    tried._rendered.cache_clear()
