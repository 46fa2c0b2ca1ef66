"""What dropping the context leaves of prompts: counted in those that are stored, beside what was measured."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ropewalk.experiment import schema
from ropewalk.experiment.held import held
from ropewalk.experiment.index import Index, StoredPrompt
from ropewalk.rope import RopeGeometry

DEPTHS = (0.05, 0.5, 0.874, 0.876, 0.95)
GEOMETRY = RopeGeometry(rotary_dim=64, rope_theta=10000.0, max_position_embeddings=256)


def raw(lengths=(256, 1024), **options):
    asked = {"model": "x", "lengths": list(lengths), "methods": {"yarn": {"factor": 4}}, "documents": {"corpus": "x"}}
    asked |= {"metrics": {"passkey": {"trials": len(DEPTHS), **options}, "perplexity": {}}}
    facts = [{"key": "12345", "depth": depth, "key_at": round(1024 * depth)} for depth in DEPTHS]
    prompts = [StoredPrompt(request=str(each["depth"]), facts=each) for each in facts]
    index = Index(prompts={("passkey", length): prompts for length in lengths})
    return SimpleNamespace(experiment=schema.parse(asked, "test"), geometry=GEOMETRY, index=index)


def test_only_needles_in_the_last_half_window_are_held():
    (found,) = held(raw())
    assert (found.metric, found.length, found.kept, found.count, found.n) == ("passkey", 1024, 128, 2, 5)
    assert found.row()["value"] is None
    assert found.row()["status"] == "holds 2 of 5"


def test_nothing_is_said_of_runs_that_kept_no_place():
    run = raw()
    run.index.prompts = {("passkey", 1024): [StoredPrompt(request="a", facts={"key": "12345", "depth": 0.95})]}
    assert list(held(run)) == []


def test_nothing_is_said_before_prompts_are_stored():
    nothing = raw()
    nothing.index.prompts.clear()
    assert list(held(nothing)) == []


@pytest.mark.parametrize(("window", "found"), [(512, [(256, 3)]), (1024, [])])
def test_the_window_is_that_of_the_model(window, found):
    run = raw()
    run.geometry = RopeGeometry(rotary_dim=64, rope_theta=10000.0, max_position_embeddings=window)
    assert [(each.kept, each.count) for each in held(run)] == found
