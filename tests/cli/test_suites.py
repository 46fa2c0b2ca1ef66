"""Several models in one file: a run each, one plan, one page; every command that takes a run takes the suite."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import checkpoints
from ropewalk.errors import ExperimentError, StoreError
from ropewalk.execution import run as execution
from ropewalk.experiment import presets, schema, suite
from ropewalk.report import joint, write
from ropewalk.stats.column import Column
from ropewalk.stats.intervals import Interval
from ropewalk.stats.paired import paired_t

SMALL = {"lengths": [192, 256], "metrics": {"perplexity": {}, "passkey": {"trials": 3}}}


@pytest.fixture(scope="module")
def asked(tiny, words, base_experiment, tmp_path_factory) -> dict[str, Any]:
    """Two models of two sizes."""
    folder = tmp_path_factory.mktemp("models")
    other = checkpoints.save(folder / "other", checkpoints.llama(seed=5, num_hidden_layers=1), words)
    first = shutil.copytree(tiny, folder / "first")
    rest = {key: value for key, value in base_experiment.items() if key != "model"}
    return rest | SMALL | {"models": [str(first), str(other)]}


@pytest.fixture
def file(asked, tmp_path) -> Path:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(asked))
    return tmp_path / "suite.yaml"


@pytest.fixture
def done(file, ropewalk, tmp_path) -> Path:
    said = ropewalk("run", file, "--out", tmp_path / "suite")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [str(tmp_path / "suite" / name) for name in ("suite.html", "suite.md")]
    return tmp_path / "suite"


def test_every_model_has_the_run_that_it_would_have_alone(done, asked, ropewalk, tmp_path):
    assert sorted(path.name for path in done.iterdir()) == ["first", "other", "suite.html", "suite.json", "suite.md"]
    alone = {key: value for key, value in asked.items() if key != "models"} | {"model": asked["models"][1]}
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(alone))
    assert ropewalk("run", tmp_path / "alone.yaml", "--out", tmp_path / "alone").code == 0
    assert ropewalk("results", tmp_path / "alone", "--json").out == ropewalk("results", done / "other", "--json").out
    text = (done / "suite.md").read_text()
    assert "## Which method wins where" in text
    assert text.count("| first | 256 |") == text.count("| other | 256 |") == 1
    assert "## Tail perplexity at 256 tokens against none" in text
    assert "| configuration | first | other | over models |" in text
    assert "## first (A) and other (B): " in text


def test_resume_verify_status_report_and_plan_take_a_suite(done, file, ropewalk, monkeypatch):
    before = ropewalk("results", done / "other", "--json").out
    shutil.rmtree(done / "other")
    assert "other: is not begun." in ropewalk("status", done).err
    assert ropewalk("verify", done).code == 2
    said = ropewalk("resume", done)
    assert said.code == 0, said.err
    assert ropewalk("results", done / "other", "--json").out == before
    said = ropewalk("verify", done)
    assert said.code == 0
    assert [line.split(" cells")[-1] for line in said.out.splitlines()] == [
        "first:",
        " recomputed from raw outcomes, 0 passes and trials run again: no mismatches",
        "other:",
        " recomputed from raw outcomes, 0 passes and trials run again: no mismatches",
    ]
    assert {each["failures"] for each in json.loads(ropewalk("status", done, "--json").out).values()} == {0}
    assert set(json.loads(ropewalk("plan", file, "--no-probe", "--json").out)) == {"first", "other"}
    monkeypatch.setattr(write, "report_of", lambda data, **_: [(data.directory / "report.html").touch()])
    assert ropewalk("report", done).code == 0
    assert '<a href="first/report.html">first</a>' in (done / "suite.html").read_text()


def test_a_run_that_only_its_writer_can_read_is_gone_on_with(done, ropewalk, monkeypatch):
    """A commit cut short."""

    def refused(run: Path) -> bool:
        raise StoreError(f"{run}: its last commit was cut short")

    monkeypatch.setattr(execution, "is_finished", refused)
    said = ropewalk("resume", done)
    assert said.code == 0, said.err
    assert "cells in" in said.err


def test_shards_of_a_suite_merge_into_the_suite(done, file, ropewalk, tmp_path):
    parts = [tmp_path / "one", tmp_path / "two"]
    for place, part in enumerate(parts, 1):
        assert ropewalk("run", file, "--out", part, "--shard", f"{place}/2").code == 0
    said = ropewalk("merge", *parts, "--out", tmp_path / "whole")
    assert said.code == 0, said.err
    for name in ("first", "other"):
        one, other = (json.loads(ropewalk("results", each / name, "--json").out) for each in (tmp_path / "whole", done))
        assert sorted(one, key=repr) == sorted(other, key=repr)
    body = [(each / "suite.md").read_text().split("\n", 1)[1] for each in (tmp_path / "whole", done)]
    assert body[0] == body[1]
    assert ropewalk("merge", parts[0], "--out", tmp_path / "half").code == 2
    assert not (tmp_path / "half").exists() or not any((tmp_path / "half").iterdir())


def test_a_model_that_cannot_be_loaded_leaves_the_others_as_they_are(asked, ropewalk, tmp_path):
    """Its experiment is right and its weights are torn, which only shows when its turn comes."""
    torn = shutil.copytree(asked["models"][0], tmp_path / "torn")
    with (torn / "model.safetensors").open("r+b") as file:
        file.truncate(2000)
    first, other = asked["models"]
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(asked | {"models": [first, str(torn), other]}))
    said = ropewalk("run", tmp_path / "suite.yaml", "--out", tmp_path / "suite")
    assert said.code == 1
    assert f"torn:\nmodel '{torn}' could not be loaded" in said.err
    text = (tmp_path / "suite" / "suite.md").read_text()
    assert "| configuration | first | other | over models |" in text
    assert "- torn: " in text
    said = ropewalk("resume", tmp_path / "suite")
    assert said.code == 1
    assert "other: every cell is measured, nothing is left to do" in said.err  # its model is not loaded for that
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(asked | {"models": [str(torn)]}))
    said = ropewalk("run", tmp_path / "suite.yaml", "--out", tmp_path / "alone")
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith(f"ropewalk: model '{torn}' could not be loaded")


class TestRefusals:
    def test_another_suite_in_the_directory(self, done, asked, refused, tmp_path):
        (tmp_path / "other.yaml").write_text(yaml.safe_dump(asked | {"seed": 4}))
        said = refused("run", tmp_path / "other.yaml", "--out", done)
        assert said.startswith(f"{done}: holds another suite (its first was asked otherwise); choose another --out")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"model": "strand"}, "names model 'strand' and models; give one of the two keys."),
            ({"models": "strand"}, "models='strand' must be a list of models, such as [strand, smollm2]."),
            ({"models": []}, "models holds 0 that are here; name from 1 to 64"),
            ({"lengths": [0]}, "lengths"),
        ],
    )
    def test_what_is_no_suite(self, asked, refused, tmp_path, change, said):
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump(asked | change))
        assert said in refused("run", tmp_path / "suite.yaml", "--out", tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_one_model_that_is_not_there_and_nothing_is_begun(self, asked, refused, tmp_path):
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump(asked | {"models": [*asked["models"], "/no/such"]}))
        assert "/no/such" in refused("run", tmp_path / "suite.yaml", "--out", tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_commands_of_one_model(self, file, refused, tmp_path):
        said = refused("tune", file, "--length", 192, "--out", tmp_path / "found")
        assert "models is a suite, which `ropewalk run` and `ropewalk plan` take; name one model here" in said

    @pytest.mark.parametrize("name", ["../first", ".hidden", ""])
    def test_a_record_that_leads_elsewhere(self, done, refused, name):
        record = json.loads((done / suite.FILE).read_text())
        record["runs"][name] = record["runs"].pop("first")
        (done / suite.FILE).write_text(json.dumps(record))
        assert refused("resume", done).startswith(f"{done / suite.FILE}: is damaged")


def test_models_that_are_not_installed_are_named_and_left_out(asked, ropewalk, tmp_path):
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(asked | {"where_installed": ["nobody/has-this-one"]}))
    said = ropewalk("plan", tmp_path / "suite.yaml", "--no-probe")
    assert said.code == 0
    assert "nobody/has-this-one is left out: its weights are not on this machine" in said.err
    with pytest.raises(ExperimentError, match="must be a list"):
        suite.parse(asked | {"where_installed": "strand"}, "suite")


def test_models_of_one_name_have_directories_of_their_own(asked):
    one = asked["models"][0]
    assert list(suite.parse(asked | {"models": [one, one, f"{one}/"]}, "suite").experiments) == [
        "first",
        "first-2",
        "first-3",
    ]


def test_the_preset_runs_what_is_installed():
    found = suite.parse(schema.load_yaml(presets.text("suite-tiny"), "preset"), "preset")
    assert next(iter(found.experiments)) == "strand"
    assert len(found.experiments) + len(found.absent) == 3


class TestOverModels:
    def test_ratios_are_pooled_by_their_logarithms_with_models_as_units(self):
        column = Column(name="tail", title="tail", pooling="nll")
        pooled = joint.over_models(column, [1.1, 0.8, 1.3])
        expected = paired_t(np.log([1.1, 0.8, 1.3]), np.zeros(3)).interval
        assert isinstance(pooled, Interval)
        assert pooled.n == 3
        assert pooled.value == pytest.approx(math.exp(expected.value), rel=1e-12)
        assert (pooled.low, pooled.high) == (math.exp(expected.low), math.exp(expected.high))

    def test_differences_are_pooled_as_they_are(self):
        pooled = joint.over_models(Column(name="x", title="x", pooling="bits"), [0.1, 0.3])
        assert pooled is not None
        assert pooled.value == pytest.approx(0.2, rel=1e-12)

    def test_of_a_share_no_more_than_all_of_it_changes(self):
        """Of models that lose 0, 60 and 40 points t goes on beyond both ends; of 20, 30 and 40 it does not."""
        column = Column(name="x", title="x", pooling="share", higher_is_better=True)
        free = paired_t(np.array([0.0, -0.6, -0.4]), np.zeros(3)).interval
        assert free.low < -1
        assert free.high > 1
        cut = Interval(value=free.value, low=-1.0, high=1.0, n=3)
        assert joint.over_models(column, [0.0, -0.6, -0.4]) == cut
        alike = paired_t(np.array([-0.2, -0.3, -0.4]), np.zeros(3)).interval
        assert joint.over_models(column, [-0.2, -0.3, -0.4]) == alike

    def test_models_that_all_change_alike_hold_no_interval(self):
        """Two that find every key with a method and without it say nothing certain of a third."""
        column = Column(name="x", title="x", pooling="share", higher_is_better=True)
        for change in (0.0, -1.0):
            assert joint.over_models(column, [change, change]) == Interval(value=change, low=None, high=None, n=2)

    def test_one_model_says_nothing_of_others(self):
        assert joint.over_models(Column(name="x", title="x", pooling="bits"), [0.1]) is None
