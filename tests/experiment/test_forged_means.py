"""In bfloat16 a pass's mean that no model gave is noticed, and rounding is not taken for a forgery."""

from __future__ import annotations

import contextlib
import math
import shutil

import numpy as np
import pytest
from runs_for_tests import run

from ropewalk.execution import canary, rerun
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment.raw import Raw, write_cells
from ropewalk.experiment.store import Store
from ropewalk.experiment.tolerance import SCATTER, SIGMAS, Tolerance, chance, noticed
from ropewalk.experiment.verify import verify_rows

ALL = 1000


@pytest.fixture(scope="module")
def halved(base_experiment, tmp_path_factory):
    """A run in bfloat16; read only, see `forge`."""
    out = tmp_path_factory.mktemp("bfloat16") / "run"
    run(base_experiment | {"dtype": "bfloat16", "metrics": {"perplexity": {}}}, out)
    return out


def forge(source, out, nats, label="yarn factor=2"):
    """A copy in which every loss of one configuration is lower, with hashes and values made anew; its passes."""
    shutil.copytree(source, out)
    with contextlib.closing(Store.open_run(out)) as store, store.transaction():
        ((fingerprint,),) = set(store.rows("SELECT fingerprint FROM cells WHERE label = ?", [label]))
        files = store.rows("SELECT file, sha256 FROM passes WHERE fingerprint = ?", [fingerprint])
        for name, digest in files:
            lower = store.read_arrays(name, digest)["nll"] - np.float32(nats)
            changed = store.write_arrays(name, {"nll": lower})
            store._db.execute("UPDATE passes SET sha256 = ? WHERE file = ?", (changed, name))
        raw = Raw.read(store)
        write_cells(store, raw, raw.plan().cells)
    assert verify_rows(out)[1] == []  # the run agrees with itself
    return len(files)


def test_an_honest_run_comes_back_to_the_last_bit(halved):
    said = []
    assert verify_passes(halved, ALL, say=said.append) == (9 + 12, [])
    assert said == [
        "21 of 21 passes again would notice a change of 0.001 nats/token in one configuration with probability 1, in a "
        "single pass with 1 (this device reproduces the run's canary to the last bit)."
    ]


@pytest.mark.parametrize("nats", [0.045, 0.002])
def test_a_forged_mean_on_the_machine_that_made_the_run(halved, tmp_path, nats):
    passes = forge(halved, tmp_path / "run", nats)
    wrong = verify_passes(tmp_path / "run", ALL)[1]
    assert [str(each).partition(": ")[2][:8] for each in wrong] == ["mean nll"] * passes


def test_a_forged_mean_on_another_machine(halved, tmp_path, monkeypatch):
    monkeypatch.setattr(rerun, "_reproduced", lambda *_: False)
    assert verify_passes(halved, ALL)[1] == []
    passes = forge(halved, tmp_path / "run", 0.045)
    assert len(verify_passes(tmp_path / "run", ALL)[1]) == passes


def test_which_passes_are_run_again_cannot_be_known(halved, monkeypatch):
    drawn = []
    monkeypatch.setattr(rerun, "_pass", lambda raw, worker, tolerance, task: drawn.append(task) or [])
    for _ in range(12):
        verify_passes(halved, 1)
    assert len(set(drawn)) > 1


def test_a_device_is_the_same_only_if_it_gives_the_canary_to_the_last_bit(halved, tmp_path):
    shutil.copytree(halved, tmp_path / "run")
    with contextlib.closing(Store.open_run(tmp_path / "run")) as store, store.transaction():
        known = store.meta("canary")
        store.set_meta("canary", known | {"nll": [known["nll"][0] + 0.01, *known["nll"][1:]]})
    assert canary.TOLERANCE["bfloat16"] > 0.01 / len(known["nll"])
    said = []
    assert verify_passes(tmp_path / "run", 2, say=said.append)[1] == []
    assert "this device does not reproduce the run's canary" in said[0]


@pytest.mark.parametrize("tokens", [31, 127, 1023, 16383])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounding_passes_and_a_mean_beyond_the_bound_does_not(dtype, tokens):
    tolerance = Tolerance(dtypes=frozenset({dtype}), same=False)
    draw = np.random.default_rng(0)
    assert tolerance.mean(tokens) == SIGMAS * SCATTER[dtype] / math.sqrt(tokens)
    for _ in range(200):
        stored = draw.normal(3.0, 1.0, tokens)
        other = stored + SCATTER[dtype] * draw.standard_normal(tokens)
        assert tolerance.allows(stored, other)
        assert not tolerance.allows(stored, other + 2 * tolerance.mean(tokens))
    moved = stored + 10 * SCATTER[dtype] * np.where(np.arange(tokens) % 2, 1.0, -1.0)  # its mean hardly moves
    assert not tolerance.allows(stored, moved)
    assert not tolerance.allows(stored, stored[1:])


def test_the_chance_of_a_sample():
    assert chance(120, 1, 8) == pytest.approx(8 / 120)
    assert chance(120, 120, 1) == 1.0
    assert chance(120, 113, 8) == 1.0
    hits = np.mean([np.random.default_rng(i).choice(40, 5, replace=False).min() < 4 for i in range(4000)])
    assert chance(40, 5, 4) == pytest.approx(hits, abs=0.03)
    same = Tolerance(dtypes=frozenset({"bfloat16"}), same=True)
    assert "5 of 40 passes again would notice a change of 0.001 nats/token in one" in noticed(same, [99] * 40, 5, 4, 80)
