"""The key-token objective from end to end, against plain transformers, plain offsets and a plain mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import checkpoints
import ropewalk as rw
from ropewalk.corpus import KeySpans, write_spans
from ropewalk.corpus.documents import text_sha256
from ropewalk.errors import ExperimentError
from ropewalk.rope import Rotation
from ropewalk.searching import named, record
from ropewalk.searching.run import Found

WINDOW, LENGTH = checkpoints.WINDOW, 256
SETTING: dict[str, Any] = {"evaluator": "by hand", "trunc_len": 64, "stride": 16, "alpha": 2.0, "beta": -2.0}
Texts = dict[str, str]
Spans = dict[str, list[tuple[int, int]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def texts(folder: Path) -> Texts:
    found = {str(seed): checkpoints.prose(seed) for seed in range(4)}
    for name, text in found.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def spans(texts: Texts) -> Spans:
    """Eleven characters out of every 60: inside the window, beyond it and beyond N, most with parts of tokens."""
    return {name: [(at, at + 11) for at in range(7, len(text) - 60, 60)] for name, text in texts.items()}


@pytest.fixture(scope="module")
def loaded(folder: Path) -> rw.models.LoadedModel:
    checkpoints.save(folder / "model", checkpoints.llama(), checkpoints.tokenizer())
    return rw.load(str(folder / "model"), dtype="float32")


@pytest.fixture(scope="module")
def arguments(folder: Path, texts: Texts, spans: Spans) -> dict[str, Any]:
    file = folder / "spans.json"
    known = [
        KeySpans(**SETTING, document_sha256=text_sha256(text, place=name), spans=tuple(spans[name]))
        for name, text in texts.items()
    ]
    write_spans(file, known)
    return {
        "length": LENGTH,
        "lengths": [64],
        "methods": {"yarn": {"factor": 2}},
        "documents": {"files": [str(folder / "*.txt")], "count": 4},
        "metrics": {"perplexity": {}, "longppl": {"spans": str(file)}},
        "section": {"knots": 2, "weights": {"long": 0.0, "keys": 1.0}},
        "evaluations": 15,
        "seed": 2,
    }


@pytest.fixture(scope="module")
def found(loaded: Any, arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Found:
    return rw.search(loaded, out=tmp_path_factory.mktemp("search"), **arguments)


def key_losses(loaded: Any, rotation: Rotation, text: str, spans: list[tuple[int, int]]) -> tuple[float, int, float]:
    """Summed loss of the key tokens beyond the window, their number, and the mean loss of all tokens there."""
    encoded = loaded.tokenizer(text, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"][:LENGTH], encoded["offset_mapping"][:LENGTH]
    with rw.patched(loaded.model, rotation), torch.inference_mode():
        logits_TV = loaded.model(torch.tensor([ids])).logits[0].double()
    nll = torch.nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(ids[1:]), reduction="none")
    beyond = range(WINDOW, LENGTH)
    key = [t for t in beyond if any(low <= offsets[t][0] and offsets[t][1] <= high for low, high in spans)]
    return float(sum(nll[t - 1] for t in key)), len(key), float(np.mean([float(nll[t - 1]) for t in beyond]))


def pooled(loaded: Any, rotation: Rotation, names: list[str], texts: Texts, spans: Spans) -> tuple[float, float]:
    """Mean loss per key token over documents, and the plain mean."""
    each = [key_losses(loaded, rotation, texts[name], spans[name]) for name in names]
    return sum(one[0] for one in each) / sum(one[1] for one in each), float(np.mean([one[2] for one in each]))


def test_the_objective_is_the_loss_of_the_key_tokens(found: Found, loaded: Any, texts: Texts, spans: Spans) -> None:
    """Of the winner and of every named method; budget 1e-5 nats, float32 in other batches."""
    names = [Path(name).stem for name in found.result["split"]["search"]]
    winner, plain = pooled(loaded, found.rotation, names, texts, spans)
    assert found.result["winner"]["objective"] == pytest.approx(winner, abs=1e-5)
    assert found.result["winner"]["keys"] == pytest.approx(winner, abs=1e-5)
    assert found.result["winner"]["long"] == pytest.approx(plain, abs=1e-5)
    assert abs(winner - plain) > 0.05  # the two are told apart
    geometry = loaded.geometry
    for method, each in found.result["named"].items():
        parts = each["label"].split(" ")[1:]
        params = {key: float(value) for key, value in (part.split("=") for part in parts)}
        rotation = rw.rotation(geometry, method, length=LENGTH, **params)
        assert rotation.fingerprint == each["fingerprint"]
        loss, _ = pooled(loaded, rotation, names, texts, spans)
        assert each["objective"] == pytest.approx(loss, abs=1e-5)
        assert winner <= loss


def test_key_tokens_choose_the_winner_and_not_all_tokens(found: Found) -> None:
    with record.opened(found.directory) as store:
        answers = [answer for name in (named.STUDY, "seed 2") for answer in store.of(name).values()]
    outcomes = [answer.outcome.plain() for answer in answers if answer.candidate != "none"]
    keys = [sum(total for total, _ in o["keys_D"]) / sum(count for _, count in o["keys_D"]) for o in outcomes]
    long = [float(np.mean(o["long_D"])) for o in outcomes]
    assert found.result["winner"]["objective"] == min(keys)
    assert int(np.argmin(keys)) != int(np.argmin(long))
    assert {len(o["long_D"]) for o in outcomes} == {2}  # nobody is raced on losses that do not count


def test_the_judge_reports_its_own_key_tokens(found: Found, loaded: Any, texts: Texts, spans: Spans) -> None:
    names = [Path(name).stem for name in found.result["split"]["judge"]]
    own = next(row for row in found.result["judge"]["rows"] if row["label"] == "searched")
    assert np.log(own["keys"]) == pytest.approx(pooled(loaded, found.rotation, names, texts, spans)[0], abs=1e-5)
    text = (found.directory / "search.md").read_text("utf-8")
    assert "| key tokens |" in text
    assert "on key tokens beyond the window" in text


def test_no_key_token_in_reach_is_refused(loaded: Any, arguments: dict[str, Any], texts: Texts, tmp_path: Path) -> None:
    known = [
        KeySpans(**SETTING, document_sha256=text_sha256(text, place=name), spans=((0, 40),))
        for name, text in texts.items()
    ]
    write_spans(tmp_path / "spans.json", known)
    metrics = {"perplexity": {}, "longppl": {"spans": str(tmp_path / "spans.json")}}
    with pytest.raises(ExperimentError, match=f"no key token lies between {WINDOW} and {LENGTH} in the search"):
        rw.search(loaded, out=tmp_path / "out", **(arguments | {"metrics": metrics}))
