"""Text files and data sets on disk."""

import hashlib
import os
import sys

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from ropewalk.corpus import load_documents
from ropewalk.errors import CorpusError


def refusal(spec) -> str:
    with pytest.raises(CorpusError) as refused:
        load_documents(spec)
    return str(refused.value)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Three texts in the working directory."""
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}, naïve 🙂\r\n", encoding="utf-8", newline="")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Files


def test_files_in_order_of_patterns_then_of_names(here):
    documents = load_documents({"files": ["sub/*.txt", "*.txt"]})
    assert [d.id for d in documents] == ["sub/c.txt", "a.txt", "b.txt"]
    assert documents[0].text == "text of sub/c.txt, naïve 🙂\r\n"
    assert documents[0].sha256 == hashlib.sha256((here / "sub/c.txt").read_bytes()).hexdigest()
    assert (documents[0].title, documents[0].kind, documents[0].licence) == ("c", "file", "not known")


def test_globs_descend_and_one_text_may_stand_for_a_list(here):
    assert [d.id for d in load_documents({"files": "**/*.txt"})] == ["a.txt", "b.txt", "sub/c.txt"]


def test_a_file_matched_by_two_patterns_is_one_document(here):
    assert [d.id for d in load_documents({"files": ["b.txt", "*.txt"]})] == ["b.txt", "a.txt"]


def test_a_name_with_glob_characters_is_a_name_first(here):
    (here / "a[1].txt").write_text("bracketed", encoding="utf-8")
    assert [d.text for d in load_documents({"files": ["a[1].txt"]})] == ["bracketed"]


def test_count_takes_the_first_and_reads_no_others(here):
    (here / "z.txt").write_bytes(b"\xff\xfe")
    assert [d.id for d in load_documents({"files": ["*.txt"], "count": 2})] == ["a.txt", "b.txt"]


def test_a_byte_order_mark_is_not_text(here):
    (here / "bom.txt").write_bytes(b"\xef\xbb\xbfword")
    assert load_documents({"files": ["bom.txt"]})[0].text == "word"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.txt is empty: a document needs text; leave it out or mend it."),
        (b" \n\t", "x.txt is empty: a document needs text; leave it out or mend it."),
        (b"ab\0c", "x.txt is binary (NUL at character 2): documents are plain text in UTF-8."),
        (b"caf\xe9 x", "x.txt is not UTF-8 text (byte 3 is 0xe9); convert it, or choose another file."),
    ],
)
def test_what_is_not_text_is_refused(here, content, message):
    (here / "x.txt").write_bytes(content)
    assert refusal({"files": ["x.txt"]}) == message


def test_missing_files_are_refused(here):
    assert refusal({"files": ["a.txt", "books/*.txt"]}) == (
        f"documents: files: 'books/*.txt' matches no file in {here}; mend the path (globs: *, ?, **)."
    )
    assert refusal({"files": ["sub"]}) == "documents: files: 'sub' is a directory; write 'sub/*.txt'."


def test_too_large_a_count_is_refused(here):
    assert refusal({"files": ["*.txt"], "count": 3}) == (
        "documents: count=3, but files ['*.txt'] match only 2; lower count."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(here):
    (here / "a.txt").chmod(0)
    assert refusal({"files": ["a.txt"]}) == "a.txt cannot be read: Permission denied; mend its permissions."


def test_the_same_text_twice_is_refused(here):
    (here / "copy.txt").write_bytes((here / "a.txt").read_bytes())
    sha256 = hashlib.sha256((here / "a.txt").read_bytes()).hexdigest()
    assert refusal({"files": ["*.txt"]}) == (
        f"documents 'a.txt' and 'copy.txt' are the same text (sha256 {sha256}): it would count twice as evidence; "
        "remove one."
    )


# Data sets

ROWS = {"text": ["first text", "second, naïve 🙂", "NA"], "year": [1811, 1813, 1815]}


@pytest.fixture
def saved(here):
    Dataset.from_dict(ROWS).save_to_disk(here / "saved")
    DatasetDict(train=Dataset.from_dict(ROWS), test=Dataset.from_dict({"text": ["unseen"]})).save_to_disk(here / "both")
    frame = pd.DataFrame(ROWS)
    frame.to_parquet(here / "table.parquet")
    frame.to_json(here / "table.jsonl", orient="records", lines=True)
    frame.to_csv(here / "table.csv", index=False)
    return here


@pytest.mark.parametrize("path", ["saved", "table.parquet", "table.jsonl", "table.csv"])
def test_rows_of_a_data_set(saved, path):
    documents = load_documents({"dataset": path})
    assert [d.text for d in documents] == ROWS["text"]
    assert [d.id for d in documents] == [f"{path.split('.')[0]}-{i}" for i in range(3)]
    assert documents[1].source == f"{path} (column 'text', row 1)"
    assert documents[1].kind == "dataset"
    assert load_documents({"dataset": path, "count": 2}) == documents[:2]


def test_a_split_is_chosen(saved):
    assert [d.text for d in load_documents({"dataset": "both", "split": "test"})] == ["unseen"]


@pytest.mark.parametrize("path", ["saved", "table.parquet", "table.jsonl", "table.csv"])
def test_wrong_columns_counts_and_splits_are_refused(saved, path):
    assert refusal({"dataset": path, "column": "txt"}) == (
        f"documents: column='txt' is not in '{path}'; did you mean 'text'? There are: text, year."
    )
    assert refusal({"dataset": path, "count": 4}) == (
        f"documents: count=4, but dataset '{path}' has 3 rows; lower count."
    )
    why = "'saved' has no splits" if path == "saved" else f"'{path}' is one file"
    assert refusal({"dataset": path, "split": "train"}) == f"documents: split='train', but {why}; leave split out."


def test_a_missing_split_is_refused(saved):
    assert refusal({"dataset": "both", "split": "tset"}) == (
        "documents: split='tset' is not in 'both'; did you mean 'test'? There are: train, test."
    )
    assert refusal({"dataset": "both"}) == "documents: split=None is not in 'both'; there are: train, test."


def test_a_column_of_numbers_is_refused(saved):
    assert refusal({"dataset": "table.parquet", "column": "year"}) == (
        "table.parquet (column 'year', row 0) holds int, not text; choose another column or drop the row."
    )


def test_missing_and_foreign_data_sets_are_refused(saved):
    assert refusal({"dataset": "folder/pg19.jsonl"}) == (
        "documents: dataset: nothing at 'folder/pg19.jsonl'; name a file or a directory of "
        "datasets.save_to_disk, or OWNER/NAME on the Hub."
    )
    assert refusal({"dataset": "a.txt"}) == (
        "documents: dataset: 'a.txt' is no .parquet, .jsonl, .csv file; plain text goes under files."
    )
    assert refusal({"dataset": "sub"}).startswith(
        "documents: dataset: 'sub' is no directory of datasets.save_to_disk (Directory sub is neither"
    )


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_damaged_tables_are_refused(here, suffix):
    (here / f"t.{suffix}").write_bytes(b'{"text": \xff"')
    assert refusal({"dataset": f"t.{suffix}"}).startswith(f"t.{suffix} cannot be read as {suffix} (")


def test_an_empty_table_is_refused(here):
    (here / "t.csv").write_text("text\n", encoding="utf-8")
    assert refusal({"dataset": "t.csv"}) == "documents: dataset 't.csv' has no rows; choose another."


def test_rows_without_text_are_refused(here):
    (here / "t.jsonl").write_text('{"text": "one"}\n{"text": null}\n', encoding="utf-8")
    assert refusal({"dataset": "t.jsonl"}) == (
        "t.jsonl (column 'text', row 1) holds NoneType, not text; choose another column or drop the row."
    )
    (here / "t.jsonl").write_text('{"text": "one"}\n{"text": ""}\n', encoding="utf-8")
    assert refusal({"dataset": "t.jsonl"}) == (
        "t.jsonl (column 'text', row 1) is empty: a document needs text; leave it out or mend it."
    )


def test_half_a_surrogate_pair_is_refused(here):
    (here / "t.jsonl").write_text('{"text": "ab\\ud83d"}\n', encoding="utf-8")
    assert refusal({"dataset": "t.jsonl"}) == (
        "t.jsonl (column 'text', row 0) has half a surrogate pair at character 2, which UTF-8 cannot hold; "
        "repair its encoding at the source."
    )


@pytest.mark.parametrize(
    ("module", "path", "package"), [("datasets", "saved", "datasets"), ("pyarrow", "table.parquet", "pyarrow")]
)
def test_a_missing_extra_is_named(saved, monkeypatch, module, path, package):
    monkeypatch.setitem(sys.modules, module, None)
    assert package in refusal({"dataset": path})
    assert "pip install 'ropewalk[datasets]'" in refusal({"dataset": path})


def test_jsonl_with_a_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\n\n  \n{"text": "two"}\n\n')
    assert [document.text for document in load_documents({"dataset": str(path)})] == ["one", "two"]
    assert [document.text for document in load_documents({"dataset": str(path), "count": 2})] == ["one", "two"]


def test_a_pattern_does_not_walk_the_disk(tmp_path, monkeypatch):
    from ropewalk.corpus import local

    monkeypatch.setattr(local, "MAX_ENTRIES", 50)
    (tmp_path / "a").mkdir()
    for name in ("b", "c"):  # two circles: 2^40 paths for glob
        (tmp_path / "a" / name).symlink_to(tmp_path / "a")
    for pattern in ("/**", f"{tmp_path}/**/nothing.txt", "/proc/*/*"):
        with pytest.raises(CorpusError, match="reaches more than 50 files and folders; name a narrower place"):
            local.file_documents([pattern])
