"""Runs that take a turn: strides, evaluators, ready spans, BOS, chat templates, other protocols, other windows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import Gemma2Config, Gemma2ForCausalLM

import checkpoints
from ropewalk.corpus import load_documents, tokenize, write_spans
from ropewalk.corpus.spans import KeySpans
from ropewalk.errors import CorpusError, ExperimentError, ModelError
from ropewalk.execution import worker
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment.verify import verify_rows
from ropewalk.scoring import score

LONGPPL = {"trunc_len": 32, "stride": 16, "alpha": 0.05, "beta": -8.0, "min_key_tokens": 5}


def value(run, label, length, metric):
    frame = run.frame()
    (found,) = frame[(frame.label == label) & (frame.length == length) & (frame.metric == metric)].value
    return found


def verified(run):
    checked, wrong = verify_rows(run.directory)
    again, different = verify_passes(run.directory, 3)
    assert (wrong, different) == ([], [])
    assert again == 3
    return checked


def documents(texts):
    return load_documents({"files": [str(texts / "*.txt")]})


def test_a_stride_scores_every_token_with_a_full_window(swept, texts, tiny_bos, words_bos):
    run = swept(
        model=str(tiny_bos),
        methods={"linear": {"factor": 2}},
        lengths=[64, 256],
        metrics={"perplexity": {"stride": 40}},
    )
    verified(run)
    model = checkpoints.llama(seed=1)
    losses = []
    for document in documents(texts):
        ids = tokenize(words_bos, document).ids[:256].astype(np.int64)
        done = 1
        for high in [64, *range(64 + 40, 256, 40), 256]:
            fed = torch.from_numpy(ids[max(0, high - 64) : high].copy())
            fed[0] = words_bos.bos_token_id
            with torch.no_grad():
                logits = model(fed[None], use_cache=False).logits[0, :-1]
            nll = torch.nn.functional.cross_entropy(logits, fed[1:], reduction="none").double()
            losses += nll[-(high - done) :].tolist()
            done = high
    assert len(losses) == 3 * 255
    assert math.log(value(run, "none", 64, "perplexity")) == pytest.approx(np.mean(losses), abs=1e-5)
    samples = run.samples()
    mine = samples[(samples.label == "none") & (samples.metric == "perplexity")]
    assert set(mine.denominator) == {255.0}  # both lengths score the same tokens
    assert run.curve().length.tolist()


def test_bos_is_fed_first_and_costs_a_position(swept, texts, tiny_bos, words_bos):
    run = swept(model=str(tiny_bos), methods={"linear": {"factor": 2}})
    verified(run)
    assert run.meta["bos"] is True
    model = checkpoints.llama(seed=1)
    losses = []
    for document in documents(texts):
        ids = torch.tensor(words_bos(document.text)["input_ids"][:192])
        assert ids[0] == words_bos.bos_token_id
        with torch.no_grad():
            losses.append(model(ids[None], labels=ids[None]).loss.item())
    assert math.log(value(run, "none", 192, "perplexity")) == pytest.approx(np.mean(losses), abs=1e-5)


def test_the_package_s_reading_feeds_no_bos(swept, texts, tiny_bos, words_bos, tmp_path):
    """`longppl.reading: package`: the key tokens of every other run, scored as the package does."""
    longppl = {"evaluator": "self", **LONGPPL}
    ours = swept(tmp_path / "ours", model=str(tiny_bos), metrics={"longppl": longppl})
    run = swept(tmp_path / "package", model=str(tiny_bos), metrics={"longppl": longppl | {"reading": "package"}})
    verified(run)
    arrays = load_file(run.directory / "documents.safetensors")
    model, nats, keys = checkpoints.llama(seed=1), 0.0, 0
    for index, document in enumerate(documents(texts)):
        ids = torch.tensor(words_bos(document.text)["input_ids"][1:192])
        with torch.no_grad():
            nll = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
        key = torch.tensor(arrays[f"{index}.key"][2:192].astype(bool))
        nats, keys = nats + float(nll[key].sum()), keys + int(key.sum())
    assert math.log(value(run, "none", 192, "longppl")) == pytest.approx(nats / keys, abs=1e-5)
    assert abs(value(ours, "none", 192, "longppl") - math.exp(nats / keys)) > 1e-3


def test_the_package_s_reading_needs_a_bos_to_leave_out(swept):
    with pytest.raises(ExperimentError) as refusal:
        swept(metrics={"longppl": {"evaluator": "self", "reading": "package", **LONGPPL}})
    assert str(refusal.value) == (
        "metrics.longppl.reading=package: this tokenizer puts no BOS in front, so the package reads as every metric "
        "does; leave it out."
    )


def test_more_passkeys_than_places_are_refused_before_anything_is_read(swept):
    with pytest.raises(ExperimentError, match=r"^test: passkey: 200 trials at 192 tokens would repeat prompts"):
        swept(lengths=[192, 256], metrics={"passkey": {"trials": 200}}, documents={"files": ["nothing here"]})


def test_another_model_as_evaluator(swept, tiny_bos, texts):
    run = swept(metrics={"longppl": {"evaluator": str(tiny_bos), **LONGPPL}})
    verified(run)
    assert run.meta["evaluator"]["model"]["id"] == str(tiny_bos)
    assert run.meta["evaluator"]["model"]["weights_sha256"] != run.meta["model"]["weights_sha256"]
    assert {row["status"] for row in run.rows()} == {"ok"}
    own = swept(run.directory.parent / "self", metrics={"longppl": {"evaluator": "self", **LONGPPL}})
    assert value(run, "none", 256, "longppl") != value(own, "none", 256, "longppl")


def test_spans_from_a_file_are_the_evaluator_s(swept, texts, tmp_path):
    own = swept(tmp_path / "own", metrics={"longppl": {"evaluator": "self", **LONGPPL}})
    found = [KeySpans(**{**spans, "spans": tuple(map(tuple, spans["spans"]))}) for spans in own.meta["key_spans"]]
    write_spans(tmp_path / "spans.json", found)
    run = swept(tmp_path / "ready", metrics={"longppl": {"spans": str(tmp_path / "spans.json"), "min_key_tokens": 5}})
    verified(run)
    assert run.meta["evaluator"] is None
    assert [row["value"] for row in run.rows()] == [row["value"] for row in own.rows()]
    write_spans(tmp_path / "fewer.json", [found[0], *(without_spans(spans) for spans in found[1:])])
    fewer = swept(
        tmp_path / "fewer", metrics={"longppl": {"spans": str(tmp_path / "fewer.json"), "min_key_tokens": 200}}
    )
    row = fewer.rows()[0]
    assert (row["status"], row["value"], row["ci_low"]) == ("too_few_key_tokens", None, None)
    mine = own.samples().query("label == 'none' and length == 192")
    count = round(mine.denominator.tolist()[0])
    assert count > 5
    assert row["reason"] == f"{count} key tokens in 1 documents, fewer than 200"
    verified(fewer)


def without_spans(spans: KeySpans) -> KeySpans:
    return KeySpans(
        evaluator=spans.evaluator,
        trunc_len=spans.trunc_len,
        stride=spans.stride,
        alpha=spans.alpha,
        beta=spans.beta,
        document_sha256=spans.document_sha256,
        spans=(),
    )


def test_more_than_ten_documents_keep_their_key_tokens(swept, tmp_path):
    for seed in range(12):
        (tmp_path / f"{seed:02d}.txt").write_text(checkpoints.prose(200 + seed, words=120), encoding="utf-8")
    run = swept(
        documents={"files": [str(tmp_path / "*.txt")]},
        lengths=[96],
        methods={"linear": {"factor": 2}},
        metrics={"longppl": {"evaluator": "self", **LONGPPL}},
    )
    verified(run)
    assert len(run.meta["documents"]) == 12


def test_documents_that_do_not_fill_are_left_out_unless_counted(swept, texts, tmp_path):
    for path in texts.iterdir():
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "a-short.txt").write_text("The rope is long.", encoding="utf-8")
    spec = {"files": [str(tmp_path / "*.txt")]}
    run = swept(documents=spec, metrics={"perplexity": {}})
    assert [Path(document["id"]).name for document in run.meta["documents"]] == [f"text-{i}.txt" for i in range(3)]
    verified(run)
    with pytest.raises(CorpusError, match=r"^document '.*a-short.txt' has \d+ tokens under this tokenizer, fewer than"):
        swept(tmp_path / "other", documents=spec | {"count": 4}, metrics={"perplexity": {}})
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("passkey", [{"protocol": "yarn"}, {"haystack": "essay"}, {}])
def test_passkey_protocols_run_and_verify(swept, passkey):
    run = swept(metrics={"passkey": {"trials": 2, **passkey}}, lengths=[230, 256], methods={"linear": {"factor": 2}})
    verified(run)
    rows = run.rows()
    assert len(rows) == 4
    assert {row["n"] for row in rows} == {2}


def test_chat_template_runs(swept, tmp_path, words):
    chatty = checkpoints.tokenizer()
    chatty.chat_template = checkpoints.CHAT_TEMPLATE
    model = checkpoints.save(tmp_path / "chatty", checkpoints.llama(), chatty)
    run = swept(model=str(model), metrics={"passkey": {"trials": 2, "template": "chat"}}, lengths=[256])
    verified(run)
    assert run.meta["model"]["chat_template"] is True


def test_the_window_of_the_experiment_replaces_the_checkpoint_s(swept):
    run = swept(window=256, methods={"yarn": {"factor": "auto"}}, metrics={"perplexity": {}})
    assert run.meta["geometry"]["window"] == 256
    assert run.meta["geometry"]["window_source"] == "window in the experiment"
    frame = run.frame()
    assert "truncate" not in set(frame.method)  # no length lies beyond
    assert frame.fingerprint.nunique() == 1  # yarn with factor 1 is none


REFUSED_BY_THEIR_FILES = [
    (
        {"metrics": {"longppl": {"spans": "builtin"}}},
        CorpusError,
        r"(hold none for document '.*text-0.txt'|built-in key spans '\w+' are unknown)",
    ),
    (
        {"metrics": {"longppl": {"spans": "/no/such.json"}}},
        CorpusError,
        r"^key spans /no/such\.json cannot be read: No such file or directory; mend the path under spans\.$",
    ),
    (
        {"metrics": {"longppl": {"evaluator": "/no/such"}}},
        ModelError,
        r"^model '/no/such' is no directory and no \.gguf file",
    ),
]


def test_an_evaluator_with_pickled_weights_is_refused_before_any_directory_is_taken(swept, tiny, tmp_path):
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((tiny / "config.json").read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"pickled holds its weights only as pytorch_model\.bin, a pickle, which can"):
        swept(metrics={"longppl": {"evaluator": str(tmp_path / "pickled"), **LONGPPL}})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("changes", "kind", "expected"), REFUSED_BY_THEIR_FILES)
def test_what_is_missing_is_refused_before_the_weights_are_read(swept, monkeypatch, changes, kind, expected, tmp_path):
    monkeypatch.setattr("ropewalk.experiment.prepare.load", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(kind, match=expected):
        swept(**changes)
    assert not (tmp_path / "run").exists()


REFUSED_BY_THE_TOKENIZER = [
    (
        {"metrics": {"passkey": {"trials": 2}}, "lengths": [64, 256]},
        ExperimentError,
        r"^lengths: 64 tokens are too few for a passkey prompt of \d+ under this tokenizer; raise the length to at "
        r"least \d+ or drop the metric passkey\.$",
    ),
    (
        {"metrics": {"passkey": {"trials": 2, "protocol": "yarn"}}, "lengths": [64, 256]},
        ExperimentError,
        r"^lengths: 64 tokens are too few for YaRN's passkey prompt under this tokenizer; raise the length or drop",
    ),
    (
        {"metrics": {"passkey": {"trials": 2, "template": "chat"}}},
        ExperimentError,
        r"^passkey\.template=chat: this model's tokenizer has no chat template; use template: none\.$",
    ),
    (
        {"lengths": [100_000]},
        CorpusError,
        r"^no document fills the longest length 100000: the longest of 3, '.*text-\d.txt', has \d+ tokens",
    ),
]


@pytest.mark.parametrize(("changes", "kind", "expected"), REFUSED_BY_THE_TOKENIZER)
def test_what_cannot_be_measured_is_refused_before_the_weights_are_read(
    swept, monkeypatch, changes, kind, expected, tmp_path
):
    monkeypatch.setattr("ropewalk.experiment.prepare.load", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(kind, match=expected):
        swept(**changes)
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_offsets_has_no_bits_per_byte(swept, monkeypatch):
    """As slow tokenizers are: no offsets, so bytes cannot be counted, and that is said."""
    from ropewalk.corpus import tokens as corpus_tokens
    from ropewalk.experiment import prepare

    def without(tokenizer, document):
        found = tokenize(tokenizer, document)
        return corpus_tokens.Tokens(document=document, ids=found.ids, starts=None, ends=None, bos=found.bos)

    monkeypatch.setattr(
        prepare, "tokenize_all", lambda tokenizer, documents, upto: [without(tokenizer, each) for each in documents]
    )
    run = swept(metrics={"perplexity": {}})
    rows = {(row["metric"], row["status"], row["reason"]) for row in run.rows()}
    assert (
        "bits_per_byte",
        "error",
        "the tokenizer gives no character offsets, so bytes cannot be counted",
    ) in rows
    assert ("perplexity", "ok", None) in rows


def test_an_evaluator_that_runs_out_of_memory_is_said_in_one_sentence(swept, monkeypatch):
    from ropewalk.execution import keys
    from ropewalk.scoring import Failure

    def no_memory(model, parts, rows, budget):
        yield [(0, Failure(status="out_of_memory", reason="a single row of 128 tokens did not fit in memory"))]

    monkeypatch.setattr(keys, "score", no_memory)
    with pytest.raises(ExperimentError) as refusal:
        swept()
    assert str(refusal.value).endswith(
        "text-0.txt: a single row of 128 tokens did not fit in memory; use a smaller trunc_len, a smaller evaluator, "
        "or ready spans."
    )


def test_the_evaluators_losses_are_kept(swept, texts, loaded):
    from safetensors.numpy import load_file

    run = swept(metrics={"longppl": {"evaluator": "self", **LONGPPL}})
    arrays = load_file(run.directory / "evaluator" / "0.safetensors")
    ids = torch.from_numpy(tokenize(loaded.tokenizer, documents(texts)[0]).ids[:128].astype(np.int64))
    with torch.no_grad():
        nll = torch.nn.functional.cross_entropy(loaded.model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
    assert np.abs(arrays["nll_long"] - nll.numpy()).max() < 2e-5
    short = arrays["nll_short"]
    key = np.flatnonzero((short - arrays["nll_long"] > 0.05) & (arrays["nll_long"] < 8.0)) + 1
    spans = [tuple(pair) for pair in run.meta["key_spans"][0]["spans"]]
    inside = [any(s <= arrays["starts"][t] and arrays["ends"][t] <= e for s, e in spans) for t in range(1, 128)]
    assert set(key) == {t for t, found in enumerate(inside, start=1) if found}
    assert len(spans) > 3


def test_capped_attention_is_measured_capped(swept, tmp_path, words, texts):
    """Gemma 2 caps its attention logits, which fused kernels leave out: never measure that model without."""
    config = Gemma2Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size=384,
        max_position_embeddings=128,
        initializer_range=0.3,
        attn_logit_softcapping=1.0,
    )
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config).eval()
    directory = checkpoints.save(tmp_path / "gemma2", model, words)
    model.set_attn_implementation("eager")
    losses = []
    for document in documents(texts):
        ids = torch.from_numpy(tokenize(words, document).ids[:192].astype(np.int64))[None]
        with torch.no_grad():
            losses.append(model(ids, labels=ids).loss.item())
    asked = {"model": str(directory), "methods": {"none": None}, "metrics": {"perplexity": {}}}
    exact = swept(tmp_path / "exact", exact=True, **asked)
    assert math.log(value(exact, "none", 192, "perplexity")) == pytest.approx(np.mean(losses), abs=1e-5)
    fast = swept(tmp_path / "fast", **asked)
    assert "its attention has softcap, which fast kernels do not compute" in fast.meta["left_out"][0]
    assert math.log(value(fast, "none", 192, "perplexity")) == pytest.approx(np.mean(losses), abs=1e-5)


def test_a_model_that_is_its_own_evaluator_reads_a_document_once(swept, monkeypatch):
    """Up to its window its loss with the whole context is the unscaled pass of the plan."""
    fed = []

    def counted(model, parts, rows, batch_tokens):
        fed.extend((row.scheme.fingerprint, len(row.ids)) for row in rows)
        return score(model, parts, rows, batch_tokens)

    monkeypatch.setattr(worker, "score", counted)
    run = swept(
        lengths=[64, 128], methods={"linear": {"factor": 2}}, metrics={"longppl": {"evaluator": "self", **LONGPPL}}
    )
    verified(run)
    frame = run.frame()
    own, scaled = (frame[frame.method == name].fingerprint.iloc[0] for name in ("none", "linear"))
    assert sorted(fed) == [(scaled, 128)] * 3
    for document in range(3):
        stored = load_file(run.directory / f"nll/{own}-{document}-0-128.safetensors")["nll"]
        found = load_file(run.directory / f"evaluator/{document}.safetensors")["nll_long"]
        assert np.array_equal(stored, found)
