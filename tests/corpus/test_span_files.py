"""Key spans on disk: what is written is what is read, and a bad file is refused in one sentence."""

import json
import os

import pytest
from corpus_texts import document, unhurried
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.corpus import KeySpans, builtin_spans, read_span_file, read_spans, select_spans, span_files, write_spans
from ropewalk.errors import CorpusError

SETTING = {"evaluator": "some/model", "trunc_len": 4096, "stride": 1024, "alpha": 2.0, "beta": -2.0}
A, B = document("the first text", "a"), document("the second text", "b")


def key_spans(of, *spans, **change) -> KeySpans:
    return KeySpans(**{**SETTING, "document_sha256": of.sha256, "spans": spans, **change})


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(CorpusError) as refused:
        call(*arguments, **options)
    return str(refused.value)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "spans.json"
    write_spans(path, [key_spans(A, (0, 3), (4, 9)), key_spans(B)])
    return path


def test_written_and_read(path):
    assert read_spans(path, [B, A]) == (key_spans(B), key_spans(A, (0, 3), (4, 9)))
    assert list(read_span_file(path)) == [A.sha256, B.sha256]
    assert json.loads(path.read_text()) == {
        "version": 1,
        **SETTING,
        "documents": {A.sha256: [[0, 3], [4, 9]], B.sha256: []},
    }
    assert [file.name for file in path.parent.iterdir()] == ["spans.json"]


@unhurried
@given(cuts=st.sets(st.integers(0, 10**9)), alpha=st.floats(allow_nan=False, allow_infinity=False))
def test_any_spans_survive(tmp_path_factory, cuts, alpha):
    pairs = sorted(cuts)
    spans = key_spans(A, *zip(pairs[::2], pairs[1::2], strict=False), alpha=alpha)
    path = tmp_path_factory.mktemp("spans") / "s.json"
    write_spans(path, [spans])
    assert read_span_file(path) == {A.sha256: spans}


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([], "0 key spans of 0 settings and 0 documents"),
        ([key_spans(A), key_spans(B, alpha=1.0)], "2 key spans of 2 settings and 2 documents"),
        ([key_spans(A), key_spans(A, (0, 1))], "2 key spans of 1 settings and 1 documents"),
    ],
)
def test_a_file_holds_one_setting_and_each_document_once(tmp_path, spans, message):
    with pytest.raises(ValueError, match=message):
        write_spans(tmp_path / "s.json", spans)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_spans(path, [key_spans(B)])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["spans.json"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("stride"), "keys missing: ['stride'], unknown: []"),
        (lambda c: c.update(strides=3), "keys missing: [], unknown: ['strides']"),
        (lambda c: c.update(version=2), "version 2 is not 1, the one this ropewalk reads"),
        (lambda c: c.update(trunc_len=4096.5), "trunc_len=4096.5 has the wrong type"),
        (lambda c: c.update(alpha="2"), "alpha='2' has the wrong type"),
        (lambda c: c.update(beta=True), "beta=True has the wrong type"),
        (lambda c: c.update(evaluator=None), "evaluator=None has the wrong type"),
        (lambda c: c.update(documents=[]), "documents must map sha256 to spans"),
        *(
            (
                lambda c, spans=spans: c["documents"].update({A.sha256: spans}),
                f"spans of document '{A.sha256[:16]}' must be a list of [start, end] in whole characters",
            )
            for spans in ({}, [3], [[1, 2, 3]], [[1.0, 2]], [[True, 2]], [["1", "2"]])
        ),
    ],
)
def test_wrong_contents_are_refused(path, change, reason):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert refusal(read_span_file, path) == f"key spans {path}: {reason}; make the file anew with ropewalk."


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("[0, 3];[4, 9]", "not JSON (Extra data: line 1 column 7 (char 6))"),
        ("", "not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[]", "must be a mapping, not list"),
        ('{"version": 1, "version": 1}', "some key is there twice"),
    ],
)
def test_what_is_no_span_file_is_refused(path, raw, reason):
    path.write_text(raw)
    assert refusal(read_span_file, path) == f"key spans {path}: {reason}; make the file anew with ropewalk."


def test_bytes_and_depth_that_are_no_json_are_refused(path):
    for raw in (b"\xff\xfe\x00", b"[" * 200_000):
        path.write_bytes(raw)
        assert refusal(read_span_file, path).startswith(f"key spans {path}: not JSON (")


def test_impossible_spans_are_refused_with_the_file(path):
    content = json.loads(path.read_text())
    content["documents"][A.sha256] = [[4, 9], [0, 3]]
    path.write_text(json.dumps(content))
    assert refusal(read_span_file, path) == (
        f"{path}: key spans of document {A.sha256[:16]}: span [0, 3] starts before or where the one before it ends "
        "(9): spans must be sorted, merged and apart; make the file anew."
    )


def test_missing_and_huge_files_are_refused(path, monkeypatch):
    gone = path.with_name("gone.json")
    assert refusal(read_span_file, gone) == (
        f"key spans {gone} cannot be read: No such file or directory; mend the path under spans."
    )
    monkeypatch.setattr(span_files, "MAX_BYTES", 100)
    assert refusal(read_span_file, path) == (
        f"key spans {path} cannot be read: it has more than 100 bytes; mend the path under spans."
    )


def test_documents_without_spans_and_spans_beyond_the_end_are_refused(path):
    other = document("a third text", "c")
    assert refusal(read_spans, path, [A, other]) == (
        f"key spans {path} hold none for document 'c' (sha256 {other.sha256}); compute them "
        "(longppl: {evaluator: ...}) or choose the documents they were made for."
    )
    assert refusal(select_spans, {A.sha256: key_spans(A, (0, 15))}, [A], place="here") == (
        "document 'a': key span [0, 15] ends beyond its 14 characters; make the spans anew."
    )


def test_builtin_sets(path):
    folder = path.parent
    assert builtin_spans([B], "spans", folder=folder) == (key_spans(B),)
    assert refusal(builtin_spans, [A], "span", folder=folder) == (
        "built-in key spans 'span' are unknown; did you mean 'spans'? There are: spans."
    )
    assert refusal(builtin_spans, [A], "long", folder=folder / "none") == (
        "built-in key spans 'long' are unknown; there are: none."
    )
    assert refusal(builtin_spans, [document("x", "c")], "spans", folder=folder).startswith(
        "key spans built-in set 'spans' hold none for document 'c' (sha256 "
    )
