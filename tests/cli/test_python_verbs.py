"""What a notebook sees: the verbs by completion, runs that show themselves, models in memory."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import ropewalk as rw
from ropewalk.errors import ExperimentError, ModelError
from ropewalk.execution.loggers import LOGGERS, Logger

VERBS = {"plan", "sweep", "report", "recommend", "compare", "export", "verify", "tune", "diagnose"}


def test_completion_shows_the_verbs_without_loading_torch():
    script = "import ropewalk as rw, sys; print([n for n in dir(rw) if n[0] != '_'], 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.endswith("] False\n")
    assert {*dir(rw)} >= VERBS
    assert all(callable(getattr(rw, name)) for name in VERBS)


@pytest.fixture
def run(finished_copy):
    return rw.Run.open(finished_copy)


def test_a_run_is_one_line_and_a_table_with_the_headline(run):
    assert repr(run) == f"Run({str(run.directory)!r}: 32 cells, 192 to 256 tokens)"
    shown = run._repr_html_()
    assert shown.startswith("<p><strong>")
    assert rw.recommend(run, 256).choice.label in shown
    assert shown.count("<tr>") == 1 + len({row["label"] for row in run.labelled_rows()})


def test_latex_escapes_names(run):
    found = run.latex(metrics=["perplexity"], lengths=[256], ci=False)
    assert found.splitlines()[0] == r"\begin{tabular}{lrr}"
    assert "configuration & length & perplexity" in found
    from ropewalk.experiment.tabular import Grid, latex

    assert r"a\_b \& 5\% \{\#\$\} \textasciitilde{}\textasciicircum{}\textbackslash{}" in latex(
        Grid(columns=("x",), rows=(("a_b & 5% {#$} ~^\\",),))
    )


def test_the_verbs_say_what_the_command_line_says(run, ropewalk, monkeypatch, base_experiment):
    monkeypatch.setattr("ropewalk.report.write.png", lambda drawn: b"")
    recommended = json.loads(ropewalk("recommend", run.directory, "--length", 256, "--json").out)
    assert rw.recommend(run, 256).choice.label == recommended["choice"]["label"]
    assert rw.recommend(run.directory, 256) == rw.recommend(str(run.directory), 256)
    assert len(rw.compare(run, run).contrasts) == 32
    assert rw.verify(run, cells=1) == []
    assert rw.report(run)[0].name == "report.html"
    assert rw.report(run.directory, partial=True)[0].is_file()
    said = ropewalk("export", "linear", "--model", base_experiment["model"], "-p", "factor=2", "--target", "vllm").out
    assert rw.export("linear", "vllm", model=base_experiment["model"], factor=2) == said.rstrip("\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": "yarn"}, "methods='yarn': must map method names to their parameters, such as yarn: {factor: "),
        ({"lengths": 256}, "lengths=256: must be a list; write it in brackets, such as [2048, 4096]."),
        ({"lengths": "1k"}, "lengths='1k': must be a list; write it in brackets, such as [2048, 4096]."),
    ],
)
def test_one_name_or_one_length_is_refused_as_a_file_refuses_it(tmp_path, change, said):
    asked = {"methods": ["none"], "lengths": [64], "out": tmp_path / "run"} | change
    with pytest.raises(ExperimentError) as refused:
        rw.sweep("strand", **asked)
    assert str(refused.value).startswith(f"sweep: {said}")
    assert not (tmp_path / "run").exists()


def test_what_the_verbs_return_is_a_line(run):
    model = rw.load("strand")
    answer = rw.recommend(run, 256)
    assert repr(answer) == (
        f"Recommendation({answer.choice.label!r} for 256 tokens: tail perplexity {answer.choice.value.value:.4g}, "
        f"{len(answer.tied)} tied)"
    )
    assert repr(rw.compare(run, run)) == (
        "Compared(32 cells in both, 3 documents in both, 0 differences in provenance)"
    )
    assert re.fullmatch(r"LoadedModel\('strand': LlamaForCausalLM, \w+ on cpu, window 256\)", repr(model))
    rotation = rw.rotation(model.geometry, "yarn", 1024, factor=4)
    assert repr(rotation) == f"Rotation(32 pairs, attention_factor 1.13863, fingerprint {rotation.fingerprint})"


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_sweep_shows_how_far_it_is_where_somebody_looks(tiny, texts, tmp_path, monkeypatch):
    asked = {"methods": ["none"], "lengths": [64], "documents": {"files": [str(texts / "*.txt")]}, "dtype": "float32"}
    for name, stream in (("seen", _Terminal()), ("unseen", io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stream)
        rw.sweep(str(tiny), **asked, out=tmp_path / name)
        assert ("100 %" in stream.getvalue()) == (name == "seen")


def test_a_sweep_is_logged_by_name(tiny, texts, tmp_path, monkeypatch):
    told = []

    class Told:
        def progress(self, done, total):
            told.append(done / total)

        def cell(self, row):
            told.append(row["label"])

    @contextlib.contextmanager
    def begin(out, experiment):
        yield Told()

    monkeypatch.setitem(LOGGERS, "told", Logger(name="told", summary="", begin=begin))
    asked = {"methods": ["none"], "lengths": [64], "documents": {"files": [str(texts / "*.txt")]}, "dtype": "float32"}
    rw.sweep(str(tiny), **asked, out=tmp_path / "run", log="told")
    assert "none" in told
    assert 1.0 in told
    with pytest.raises(ExperimentError, match=r"^--log tolt: is unknown; give one of .*told"):
        rw.sweep(str(tiny), **asked, out=tmp_path / "other", log="tolt")


def test_a_model_object_is_measured_and_left_as_it_was(tiny, texts, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).train()
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    asked = {"methods": {"linear": {"factor": 2}}, "lengths": [64], "documents": {"files": [str(texts / "*.txt")]}}
    cache = model.config.use_cache
    told = []
    run = rw.sweep(model, tokenizer, **asked, out=tmp_path / "object", progress=lambda *each: told.append(each))
    named = rw.sweep(str(tiny), **asked, dtype="float32", out=tmp_path / "named")
    assert run.rows() == named.rows()
    assert model.training
    assert model.config.use_cache == cache
    assert told[-1][1] == told[-1][2]
    assert run.meta["model"]["architecture"] == "LlamaForCausalLM"


def test_what_is_no_model_is_a_sentence(tiny, tmp_path):
    asked = {"methods": ["none"], "lengths": [64], "out": tmp_path / "run"}
    with pytest.raises(ModelError, match=r"^model: int is no name and no model of transformers; give a hub id"):
        rw.sweep(7, **asked)
    with pytest.raises(ModelError, match=r"^model: a LlamaForCausalLM in memory needs its tokenizer; add tokenizer="):
        rw.sweep(AutoModelForCausalLM.from_pretrained(tiny), **asked)
    with pytest.raises(ModelError, match=r"^tokenizer: belongs to a model of transformers in memory; leave it out"):
        rw.sweep(str(tiny), object(), **asked)
    assert not (tmp_path / "run").exists()
