"""Every number of several windows equals what stock transformers gives on each window's own tokens and characters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from runs_for_tests import run
from transformers import AutoModelForCausalLM, AutoTokenizer

import checkpoints
from ropewalk.corpus.local import file_documents
from ropewalk.corpus.span_files import write_spans
from ropewalk.corpus.spans import KeySpans
from ropewalk.experiment.results import Run

LENGTH, WINDOWS = 192, 3
TAIL, HALF = LENGTH // 4, checkpoints.WINDOW // 2
KEY = tuple((at + 7, at + 40) for at in range(0, 3000, 60))
"""Characters of every document that are key."""
FLOAT32 = 1e-5
"""Relative, of means over hundreds of losses: some 100 roundings of float32."""


@dataclass(frozen=True, kw_only=True)
class Direct:
    """One window of a document, scored by stock transformers: losses of its tokens 1, 2, ... in nats."""

    nll: NDArray[np.float64]
    dropped: NDArray[np.float64]
    characters: list[tuple[int, int]]
    text: str

    @property
    def key(self) -> list[int]:
        return [
            t
            for t in range(1, LENGTH)
            if any(a <= self.characters[t][0] and self.characters[t][1] <= b for a, b in KEY)
        ]


def stock(model: Any, ids: list[int]) -> NDArray[np.float64]:
    logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none").numpy()


def scored(model: Any, words: Any, text: str, start: int, bos: list[int]) -> Direct:
    """The window at a token of the document, which a BOS opens in place of its first token where there is one."""
    encoding = words(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = ([*bos, *encoding["input_ids"]])[start : start + LENGTH]
    characters = ([(0, 0)] * len(bos) + encoding["offset_mapping"])[start : start + LENGTH]

    def opened(fed: list[int]) -> list[int]:
        return [*bos, *fed[len(bos) :]]

    ids = opened(ids)
    dropped: list[float] = []
    for low in range(LENGTH - TAIL, LENGTH, HALF // 2):
        high = min(low + HALF // 2, LENGTH)
        dropped += stock(model, opened(ids[high - HALF : high]))[low - high :].tolist()
    return Direct(nll=stock(model, ids), dropped=np.array(dropped), characters=characters, text=text)


@pytest.fixture(scope="module", params=["tiny", "tiny_bos"])
def both(request: Any, texts: Path, tmp_path_factory: Any) -> tuple[Run, list[list[Direct]]]:
    """A run, and its documents' windows scored directly."""
    checkpoint, folder = request.getfixturevalue(request.param), tmp_path_factory.mktemp("direct")
    made = {"evaluator": "by hand", "trunc_len": 32, "stride": 16, "alpha": 2.0, "beta": -2.0}
    documents = file_documents([str(texts / "*.txt")])
    write_spans(folder / "spans.json", [KeySpans(document_sha256=each.sha256, spans=KEY, **made) for each in documents])
    raw = {
        "model": str(checkpoint),
        "dtype": "float32",
        "lengths": [LENGTH],
        "documents": {"files": [str(texts / "*.txt")], "windows": WINDOWS},
        "methods": {"linear": {"factor": 2}},
        "metrics": {"perplexity": {}, "longppl": {"spans": str(folder / "spans.json"), "trunc_len": 32}},
    }
    found = run(raw, folder / "run")
    model, words = AutoModelForCausalLM.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)
    bos = [words.bos_token_id] if request.param == "tiny_bos" else []
    starts = [row["start"] for row in found.meta["documents"]]
    with torch.no_grad():
        direct = [
            [scored(model, words, each.text, start, bos) for start in starts[i * WINDOWS : (i + 1) * WINDOWS]]
            for i, each in enumerate(documents)
        ]
    return found, direct


def covered(window: Direct) -> int:
    """UTF-8 bytes of the text of tokens 1, 2, ..., which follow each other without gaps."""
    return len(window.text[window.characters[1][0] : window.characters[-1][1]].encode())


SUMS: dict[str, tuple[Callable[[Direct], float], Callable[[Direct], float]]] = {
    "perplexity": (lambda w: float(w.nll.sum()), lambda w: LENGTH - 1),
    "tail": (lambda w: float(w.nll[-TAIL:].sum()), lambda w: TAIL),
    "bits_per_byte": (lambda w: float(w.nll.sum()) / math.log(2), covered),
    "longppl": (lambda w: float(sum(w.nll[t - 1] for t in w.key)), lambda w: len(w.key)),
    "truncate": (lambda w: float(w.dropped.sum()), lambda w: TAIL),
}


@pytest.mark.parametrize("name", SUMS)
def test_windows_are_scored_as_texts_of_their_own(name: str, both: tuple[Run, list[list[Direct]]]) -> None:
    found, direct = both
    label, metric = ("truncate", "tail") if name == "truncate" else ("none", name)
    over, under = SUMS[name]
    nats = np.array([[over(window) for window in document] for document in direct])
    units = np.array([[under(window) for window in document] for document in direct])
    samples, frame = (
        (each["label"] == label) & (each["metric"] == metric) for each in (found.samples(), found.frame())
    )
    rows = found.samples()[samples]
    assert rows["denominator"].tolist() == units.ravel().tolist()
    assert rows["numerator"].to_numpy() == pytest.approx(nats.ravel(), rel=FLOAT32)
    value = found.frame()[frame]["value"].item()
    pooled = nats.sum() / units.sum()
    assert value == pytest.approx(pooled if name == "bits_per_byte" else math.exp(pooled), rel=10 * FLOAT32)


def test_the_curve_is_the_mean_over_windows(both: tuple[Run, list[list[Direct]]]) -> None:
    found, direct = both
    curve = found.curve().query("label == 'none'")
    mean = np.mean([window.nll for document in direct for window in document], axis=0)
    expected = [
        mean[low - 1 : high - 1].mean() for low, high in zip(curve["position_low"], curve["position_high"], strict=True)
    ]
    assert curve["position_high"].max() == LENGTH
    assert curve["nll"].to_numpy() == pytest.approx(np.array(expected), rel=10 * FLOAT32)
    assert set(curve["n"]) == {len(direct)}
