"""Data sets of the Hub, by stand-ins for the two functions that reach the network."""

from __future__ import annotations

import types

import datasets
import huggingface_hub
import pytest

from ropewalk.corpus.load import load_documents
from ropewalk.errors import CorpusError

ROWS = [{"text": f"A long story of ropes, part {i}. " * 20, "year": i} for i in range(5)]


@pytest.fixture
def hub(monkeypatch):
    """What was asked of the Hub; it has one data set with two splits, whose main is commit c0ffee."""
    asked = {}

    def info(self, name, revision=None):
        if name != "rope/books":
            raise OSError(f"404 Client Error: {name}\nnot found")
        asked["named"] = revision
        return types.SimpleNamespace(sha="c0ffee")

    def load(name, *, split, revision, streaming):
        asked.update(split=split, revision=revision, streaming=streaming)
        return iter(ROWS)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, revision: ["train", "test"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_the_commit_is_pinned_and_recorded(hub):
    found = load_documents({"dataset": "rope/books", "split": "test", "revision": "v1", "count": 2})
    assert hub == {"named": "v1", "split": "test", "revision": "c0ffee", "streaming": True}
    assert [document.text for document in found] == [row["text"] for row in ROWS[:2]]
    assert found[1].source == "hub rope/books@c0ffee (split 'test', column 'text', row 1)"
    assert found[1].id == "books-1"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "documents: split=None is not in 'rope/books'; there are: train, test."),
        ({"split": "tset"}, "documents: split='tset' is not in 'rope/books'; did you mean 'test'?"),
        ({"split": "test", "count": 9}, "documents: count=9, but dataset 'rope/books' has 5 rows; lower count."),
        ({"split": "test", "column": "txet"}, "documents: column='txet' is not in 'rope/books'; did you mean 'text'?"),
        ({"split": "test", "column": "year"}, "hub rope/books@c0ffee (split 'test', column 'year', row 0) holds int"),
        (
            {"dataset": "rope/boks"},
            "documents: dataset='rope/boks' (revision main) cannot be had from the Hub (404 Cli",
        ),
    ],
)
def test_what_cannot_be_had_is_a_sentence(hub, changes, expected):
    with pytest.raises(CorpusError) as caught:
        load_documents({"dataset": "rope/books"} | changes)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_offline_names_what_says_so(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CorpusError, match=r"^documents: dataset='rope/books': HF_HUB_OFFLINE is set, so nothing is"):
        load_documents({"dataset": "rope/books", "split": "test"})
    assert hub == {}


def test_what_is_on_disk_is_read_there(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rope").mkdir()
    (tmp_path / "rope" / "books").mkdir()
    with pytest.raises(CorpusError, match=r"is no directory of datasets.save_to_disk"):
        load_documents({"dataset": "rope/books"})
    with pytest.raises(
        CorpusError, match=r"^documents: revision='v1', but 'rope/books' is on disk; leave revision out"
    ):
        load_documents({"dataset": "rope/books", "revision": "v1"})
    assert hub == {}
