"""One account of the trained window and of what ships, in the same words everywhere; and pairs that never turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from handmade_runs import documents, run_of

import checkpoints
from ropewalk.experiment import schema
from ropewalk.experiment.overview import lines, overview
from ropewalk.experiment.prepare import ask, geometry_facts
from ropewalk.models import geometry_of
from ropewalk.report import provenance
from ropewalk.stats.findings import findings

LLAMA_3_1 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
BOTH = "window 512 tokens (original_max_position_embeddings), ships for 4,096 (max_position_embeddings)"
UNLEARNED = (
    "This model does not turn 12 of its 16 pairs (rope_type proportional), so it never learned them turning, as "
    "linear factor=2 has them: compose: stack leaves them still."
)


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """The configuration of a checkpoint of Llama 3.1's shape."""
    checkpoints.config(max_position_embeddings=4096, rope_parameters=LLAMA_3_1).save_pretrained(tmp_path / "scaled")
    return tmp_path / "scaled"


@pytest.fixture
def gemma4(tmp_path: Path) -> Path:
    """The configuration of a model that turns a quarter of its pairs."""
    tiny_models.config_of("gemma4").save_pretrained(tmp_path / "gemma4")
    return tmp_path / "gemma4"


def test_inspect_says_both_windows(ropewalk: Callable[..., Any], scaled: Path) -> None:
    assert ropewalk("inspect", scaled).out.startswith(f"{scaled}: {BOTH}, rope_type llama3, ")


def test_plan_and_report_say_what_inspect_says(experiment: Callable[..., dict[str, Any]], scaled: Path) -> None:
    asked = ask(schema.parse(experiment(model=str(scaled), lengths=[512, 1024], metrics={"perplexity": {}}), "test"))
    found = overview(asked, None)
    assert {name: found[name] for name in ("window", "shipped_window")} == {"window": 512, "shipped_window": 4096}
    assert BOTH in lines(found)
    assert lines(found)[-1].endswith("so this grid extends nothing; add lengths beyond 4,096.")
    run = run_of(tail={("none", 512): documents(1)}, geometry=geometry_facts(asked.geometry))
    assert ("window", BOTH.removeprefix("window ")) in provenance.table(run).rows


def test_the_users_own_window_counts_beside_what_ships(experiment: Callable[..., dict[str, Any]], scaled: Path) -> None:
    asked = ask(schema.parse(experiment(model=str(scaled), window=600, metrics={"perplexity": {}}), "test"))
    said = "window 600 tokens (window in the experiment), ships for 4,096 (max_position_embeddings)"
    assert said in lines(overview(asked, None))


def test_inspect_of_a_model_with_pairs_that_do_not_turn(ropewalk: Callable[..., Any], gemma4: Path) -> None:
    said = ropewalk("inspect", gemma4)
    assert said.code == 0
    assert ", rope_type proportional, rope_theta 1e+06, rotary_dim 32, " in said.out
    assert "wavelengths 6.28 to 84 tokens; 12 of 16 pairs never complete a turn in the window" in said.out
    assert "(from pair 4 on), 12 of them do not turn at all\n" in said.out
    found = json.loads(ropewalk("inspect", gemma4, "--json").out)
    assert found["wavelengths"][4:] == [None] * 12


def test_plan_and_report_say_of_pairs_that_were_never_learned(
    experiment: Callable[..., dict[str, Any]], gemma4: Path
) -> None:
    asked_for = {
        "linear": {"factor": 2},
        "yarn": {"factor": 2, "compose": "stack"},
        "proportional": {"factor": 2, "partial_rotary_factor": 0.25},
    }
    values = experiment(model=str(gemma4), methods=asked_for, lengths=[512], metrics={"perplexity": {}})
    asked = ask(schema.parse(values, "test"))
    assert UNLEARNED in lines(overview(asked, None))
    turning = {
        config.label
        for config in asked.plan.configurations
        for cell in asked.plan.cells
        if cell.label == config.label and asked.plan.schemes[cell.fingerprint].rotation.inv_freq[4:].any()
    }
    assert turning == {"linear factor=2"}
    geometry = geometry_facts(asked.geometry)
    run = run_of(tail={(label, 512): documents(1) for label in ("none", "linear factor=2")}, geometry=geometry)
    assert UNLEARNED in [finding.sentence for finding in findings(run)]
    alone = run_of(tail={("none", 512): documents(1)}, geometry=geometry)
    assert "unlearned" not in {finding.kind for finding in findings(alone)}


def test_models_that_turn_every_pair_have_no_such_line() -> None:
    facts = geometry_facts(geometry_of(checkpoints.config()))
    run = run_of(tail={(label, 512): documents(1) for label in ("none", "linear factor=2")}, geometry=facts)
    assert "unlearned" not in {finding.kind for finding in findings(run)}
