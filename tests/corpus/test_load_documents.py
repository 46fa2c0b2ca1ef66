"""The `documents` mapping of an experiment: what it takes and what it refuses."""

import pytest

from ropewalk.corpus import load_documents
from ropewalk.errors import CorpusError


def refusal(spec) -> str:
    with pytest.raises(CorpusError) as refused:
        load_documents(spec)
    return str(refused.value)


def test_builtin():
    assert [d.id for d in load_documents({"corpus": "builtin", "count": 2})] == ["emma", "jargon-lexicon-0-j"]
    assert len(load_documents({"corpus": "builtin", "count": None})) == 17
    assert len(load_documents({"corpus": "builtin"})) == 17


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"corpus": "build-in"},
            "documents: corpus='build-in' is unknown; did you mean 'builtin'? There are: builtin.",
        ),
        (
            {"corpus": "builtin", "cuont": 3},
            "documents: key 'cuont' is unknown; did you mean 'count'? There are: corpus, count, windows, tokens.",
        ),
        (
            {"files": ["a.txt"], "column": "text"},
            "documents: key 'column' is unknown; leave it out; there are: files, count, windows, tokens.",
        ),
        (
            {"dataset": "d", "colum": "text"},
            "documents: key 'colum' is unknown; did you mean 'column'? There are: dataset, column, split, revision, "
            "count, windows, tokens.",
        ),
        (
            {"file": ["a.txt"]},
            "documents: key 'file' is unknown; did you mean 'files'? There are: corpus, files, dataset.",
        ),
        (
            {"count": 3},
            "documents names no source; write {corpus: builtin}, {files: [...]} or {dataset: PATH}.",
        ),
        (
            {},
            "documents names no source; write {corpus: builtin}, {files: [...]} or {dataset: PATH}.",
        ),
        (
            {"corpus": "builtin", "files": ["a.txt"]},
            "documents has corpus and files, which are different sources; keep one.",
        ),
        (
            {"corpus": "builtin", "count": 0},
            "documents: count=0 must be a whole number >= 1; leave it out to take all.",
        ),
        (
            {"corpus": "builtin", "count": True},
            "documents: count=True must be a whole number >= 1; leave it out to take all.",
        ),
        (
            {"corpus": "builtin", "count": 2.0},
            "documents: count=2.0 must be a whole number >= 1; leave it out to take all.",
        ),
        (
            {"files": []},
            "documents: files=[] must be a list of paths or globs, such as ['books/*.txt'].",
        ),
        (
            {"files": [1]},
            "documents: files=[1] must be a list of paths or globs, such as ['books/*.txt'].",
        ),
        (
            {"dataset": 3},
            "documents: dataset=3 must be a text that is not empty; put it in quotes.",
        ),
        (
            {"dataset": "d", "column": ""},
            "documents: column='' must be a text that is not empty; put it in quotes.",
        ),
        (
            {"dataset": "d", "split": 1},
            "documents: split=1 must be a text that is not empty; put it in quotes.",
        ),
        (
            {"corpus": "builtin", "windows": "auto", "tokens": 0},
            "documents: tokens=0 must be a whole number >= 1; write how many windows: auto may read in all.",
        ),
        (
            {"corpus": "builtin", "windows": None},
            "documents: windows=None must be a whole number >= 1, or auto with tokens: N; leave it out for 1.",
        ),
        (
            "builtin",
            "documents='builtin' must be a mapping; write {corpus: builtin}, {files: [...]} or {dataset: PATH}.",
        ),
    ],
)
def test_refused(spec, message):
    assert refusal(spec) == message
