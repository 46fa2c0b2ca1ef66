"""A tuned file measured as any method is: swept, verified with its gains, drawn, recommended, exported from its run."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tune_experiments import experiment

from ropewalk.execution.rerun import verify_passes
from ropewalk.execution.run import sweep
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.verify import verify_rows
from ropewalk.export.command import Options, run
from ropewalk.files import sha256
from ropewalk.methods import inlined, make_params, resolve
from ropewalk.methods.near_far import near_far
from ropewalk.methods.tuned_file import content as content_of
from ropewalk.methods.tuned_file import read
from ropewalk.models import ModelSpec, load
from ropewalk.models.geometry import geometry_of
from ropewalk.models.load import read_geometry
from ropewalk.report import points, study
from ropewalk.report.content import content
from ropewalk.report.recommend import judged_block, recommend
from ropewalk.scheme import Gains, Positions, Scheme
from ropewalk.stats.findings import findings
from ropewalk.tuning import winner
from ropewalk.tuning.asked import Request
from ropewalk.tuning.pairs import turning
from ropewalk.tuning.run import tune

OTHER = "ab" * 32
SEARCHED = {"schema": 1, "rope_theta": 1e4, "lambda": [1, 1, 1, 1.5, 2, 2, 2, 2], "attention_factor": 1.1, "note": "x"}
"""What a search wrote, when there was one."""


@pytest.fixture(scope="module")
def scheme(asked: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scheme, Path]:
    """yarn's rotation with gains of 0.5, and its file, which says that it saw the last text."""
    model = load(ModelSpec(id=asked.model), dtype="float32").model
    geometry, turns = geometry_of(model.config), turning(model)
    gains = np.random.default_rng(5).normal(0, 0.5, (turns.depth, turns.heads, geometry.rotary_dim // 2))
    rotation = resolve(geometry, "yarn", make_params("yarn", {"factor": 2}), 256).rotation
    found = Scheme(rotation=rotation, gains=Gains(log=gains.astype(np.float32)))
    path = tmp_path_factory.mktemp("tuned-file") / winner.FILE
    seen = sha256((Path(asked.model).parent / "5.txt").read_bytes())
    facts = {"length": 256, "tuned_on": [seen, "0" * 64], "weights_sha256": OTHER}
    path.write_bytes(winner.content(found, geometry, turns, facts))
    return found, path


@pytest.fixture(scope="module")
def directory(asked: Any, scheme: tuple[Scheme, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned-run") / "run"
    old = out.with_name("winner.json")
    old.write_text(json.dumps(SEARCHED), encoding="utf-8")
    methods = {"yarn": {"factor": 2}, "tuned": {"file": str(scheme[1])}, "searched": {"file": str(old)}}
    raw = experiment(Path(asked.model).parent, lengths=[176, 256], methods=methods, tune=None)
    sweep(ask(raw), out)
    old.unlink()
    return out


def test_gains_are_measured_and_verified(directory: Path, scheme: tuple[Scheme, Path]) -> None:
    """The store keeps them to the bit, and verification resolves them anew."""
    found = study.read(directory)
    rows = {row.label.split()[0]: row for row in found.run.rows if row.length == 256 and row.metric == "perplexity"}
    assert rows["tuned"].fingerprint == scheme[0].fingerprint
    assert rows["tuned"].value != rows["yarn"].value
    assert verify_rows(directory)[1] == []
    assert verify_passes(directory, 8, seed=0) == (8, [])
    with sqlite3.connect(directory / "run.sqlite") as store:
        key = (scheme[0].fingerprint,)
        (text,) = store.execute("SELECT scheme FROM schemes WHERE fingerprint = ?", key).fetchone()
        plain = json.loads(text)
        log = Gains.of(plain["gains"]).log.copy()
        log[1, 0, 3] += np.float32(1e-3)
        store.execute(
            "UPDATE schemes SET scheme = ? WHERE fingerprint = ?",
            (json.dumps(plain | {"gains": Gains(log=log).plain()}), *key),
        )
    assert any(scheme[0].fingerprint in each.what for each in verify_rows(directory)[1])
    with sqlite3.connect(directory / "run.sqlite") as store:
        store.execute("UPDATE schemes SET scheme = ? WHERE fingerprint = ?", (text, *key))


def test_files_of_a_search_and_runs_that_recorded_one_are_read(directory: Path) -> None:
    """Without the file; and the one that was published is the rotation that was published with it."""
    found = study.read(directory)
    searched = {row.fingerprint for row in found.run.rows if row.method == "searched"}
    assert len(searched) == 1
    inv_freq, factor = found.rotations[searched.pop()]
    unscaled = 1e4 ** -(np.arange(8) / 8)
    assert (unscaled / np.array(inv_freq)).tolist() == pytest.approx(SEARCHED["lambda"], rel=1e-12)
    assert factor == 1.1
    winner_of_strand = Path(__file__).parents[2] / "docs" / "results" / "search" / "strand-winner.json"
    params = make_params("searched", inlined("searched", {"file": str(winner_of_strand)}))
    geometry = read_geometry(ModelSpec(id="strand"))
    assert resolve(geometry, "searched", params, 1024).rotation.fingerprint == "281b6d1f48cc09de"


def test_a_report_maps_gains_by_layer_and_head(directory: Path, scheme: tuple[Scheme, Path]) -> None:
    found = study.read(directory)
    label = next(row.label for row in found.run.rows if row.label.startswith("tuned"))
    cells = points.gains(found, label, 256)
    gains = scheme[0].gains
    assert gains is not None
    assert [(each["layer"], each["head"]) for each in cells] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [each["mean"] for each in cells] == pytest.approx(gains.log.mean(axis=2).reshape(-1).tolist())
    assert cells[3]["most"] == pytest.approx(float(np.exp(gains.log[1, 1].max())))
    assert points.gains(found, "yarn factor=2", 256) == []
    section = next(each for each in content(found).sections if each.anchor == "gains")
    assert [figure.title for figure in section.figures] == [label]


def test_a_report_says_which_of_its_documents_were_tuned_on(asked: Any, directory: Path) -> None:
    run = study.read(directory).run
    label = next(row.label for row in run.rows if row.label.startswith("tuned"))
    (said,) = (each for each in findings(run) if each.kind == "tuned_on_these")
    text = f"{Path(asked.model).parent / '5.txt'}), which flatters its losses; measure on others before you choose it."
    assert said.sentence == f"{label} was tuned on 1 of the 6 documents that are measured here ({text}"
    assert said.severity == "warning"


def test_a_report_says_that_a_scheme_was_tuned_for_other_weights(directory: Path) -> None:
    run = study.read(directory).run
    label = next(row.label for row in run.rows if row.label.startswith("tuned"))
    ours = run.meta["model"]["weights_sha256"]
    (said,) = (each for each in findings(run) if each.kind == "tuned_on_other_weights")
    assert said.sentence == (
        f"{label} was tuned on weights with the SHA-256 {OTHER[:16]}, and {ours[:16]} are measured here; unless they "
        "are the same model in another file, it says nothing of this one: tune this one."
    )
    assert said.severity == "warning"
    own = dataclasses.replace(run, meta=run.meta | {"model": run.meta["model"] | {"weights_sha256": OTHER}})
    assert not [each for each in findings(own) if each.kind == said.kind]


def test_far_gains_are_measured_verified_and_drawn(asked: Any, scheme: tuple[Scheme, Path], tmp_path: Path) -> None:
    """As those of all distances are; a changed one is noticed, and the report maps them."""
    model = load(ModelSpec(id=asked.model), dtype="float32").model
    geometry, gains = geometry_of(model.config), scheme[0].gains
    far = near_far(geometry, 100, query=Positions(), far=scheme[0].rotation, gains=gains)
    path, out = tmp_path / winner.FILE, tmp_path / "run"
    path.write_bytes(winner.content(far, geometry, turning(model), {"length": 256}))
    raw = experiment(Path(asked.model).parent, lengths=[256], methods={"tuned": {"file": str(path)}}, tune=None)
    sweep(ask(raw), out)
    assert verify_rows(out)[1] == []
    assert verify_passes(out, 4, seed=0) == (4, [])
    found = study.read(out)
    row = next(row for row in found.run.rows if row.method == "tuned")
    assert row.fingerprint == far.fingerprint
    assert gains is not None
    cells = points.gains(found, row.label, 256)
    assert [each["mean"] for each in cells] == pytest.approx(gains.log.mean(axis=2).reshape(-1).tolist())
    assert found.branches[far.fingerprint][1].gains == gains
    with sqlite3.connect(out / "run.sqlite") as store:
        (text,) = store.execute("SELECT scheme FROM schemes WHERE fingerprint = ?", (far.fingerprint,)).fetchone()
        plain = json.loads(text)
        log = gains.log.copy()
        log[1, 0, 3] += np.float32(1e-3)
        plain["branches"][1]["gains"] = Gains(log=log).plain()
        store.execute("UPDATE schemes SET scheme = ? WHERE fingerprint = ?", (json.dumps(plain), far.fingerprint))
    assert any(far.fingerprint in each.what for each in verify_rows(out)[1])


def test_it_competes_and_is_drawn_like_any_method(directory: Path, scheme: tuple[Scheme, Path]) -> None:
    """In recommendations, on the front of cost and quality, and among the curves of lambda."""
    found = study.read(directory)
    label = next(row.label for row in found.run.rows if row.label.startswith("tuned"))
    answer = recommend(found.run, 256)
    assert label in {each.label for each in (answer.choice, *answer.tied, *answer.outdone)}
    values = [row for row in found.run.rows if row.label == label and row.length == 256]
    (at,) = [each for each in points.pareto(found.run, judged_block(found.run, 256), {}) if each["method"] == "tuned"]
    assert at["value"] == next(row.value for row in values if row.metric == answer.column.name)
    assert at["cost"] != 1
    pairs = points.wavelengths(found, {"tuned": label}, 256)
    geometry = geometry_of(load(ModelSpec(id=found.run.meta["experiment"]["model"]), dtype="float32").model.config)
    assert [each["stretch"] for each in pairs] == pytest.approx(scheme[0].rotation.divisors(geometry), rel=1e-9)


def test_its_run_exports_it(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked against the losses that the run stored."""
    found = study.read(directory).run
    row = next(row for row in found.rows if row.label.startswith("tuned"))
    choice = SimpleNamespace(method="tuned", asked=row.asked, label=row.label)
    answer = SimpleNamespace(choice=choice, judged_at=256)
    monkeypatch.setattr("ropewalk.export.choice.recommend", lambda run, length: answer)
    options = Options(out=tmp_path / "out", check=True)
    _, notes = run(str(directory), "hf", params={}, length=256, options=options)
    assert any("tensors hold the gains" in note for note in notes)
    assert any(f"exported of measured (stored in {directory})" in note for note in notes)


def test_a_tuning_is_held_against_whole_schemes_of_its_file(
    asked: Any, scheme: tuple[Scheme, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their gains and branches; a descent begins at what only turns."""
    monkeypatch.setattr("ropewalk.tuning.named.usual", lambda geometry, length: {"linear": [{"factor": 2.0}]})
    methods = {"tuned": {"file": str(scheme[1])}, "rerope": {"neighbor_window": 32}}
    raw = experiment(Path(asked.model).parent, methods=methods, metrics={"perplexity": {}})
    found = tune(raw, Request(length=256, steps=1), tmp_path)
    rows = {row["label"]: row["perplexity"] for row in found.result["judge"]["rows"]}
    of_gains = next(label for label in rows if label.startswith("tuned file="))
    of_branches = next(label for label in rows if label.startswith("rerope"))
    assert set(rows) == {"tuned", "truncate", "none", "linear factor=2", of_gains, of_branches}
    assert found.result["start"] == "linear factor=2"
    assert "no metric of the file gives prompts" in (tmp_path / "tune.md").read_text()
    judged = {path.stem.partition("-")[0] for path in (tmp_path / "judged").glob("*.safetensors")}
    assert scheme[0].fingerprint in judged
    model = load(ModelSpec(id=asked.model), dtype="float32").model
    own = resolve(geometry_of(model.config), "rerope", make_params("rerope", {"neighbor_window": 32}), 256)
    assert own.scheme.fingerprint in judged
    assert len({values["256"] for values in rows.values()}) == len(rows)
    seen = [sha256(Path(name).read_bytes()) for name in found.result["split"]["search"]]
    kept = read(found.file)
    assert list(kept.tuned_on) == seen
    assert kept.weights_sha256 == json.loads((tmp_path / "identity.json").read_text())["model"]["weights_sha256"]
    assert content_of(kept.plain(), "file").weights_sha256 == kept.weights_sha256
