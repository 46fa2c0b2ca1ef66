"""`verify` says that config.json is another than a run was made with; the weights' hash does not cover it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs_for_tests import run

from ropewalk.execution.rerun import verify_passes

LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_position_embeddings": 256}, {"window", "max_position_embeddings", "shipped_window", "schemes"}),
        ({"rope_parameters": LINEAR}, {"rope_type", "schemes"}),
        ({"rope_parameters": LINEAR | {"rope_type": "default", "rope_theta": 10001.0}}, {"rope_theta", "schemes"}),
        ({"rope_parameters": LINEAR | {"rope_type": "default"}}, set()),  # a key that no default reads
    ],
)
def test_a_config_that_changed_is_a_mismatch(
    tiny: Path, experiment: Callable[..., dict[str, Any]], tmp_path: Path, change: dict[str, Any], named: set[str]
) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    asked = experiment(model=str(model), lengths=[192], methods={"yarn": {"factor": 2}}, metrics={"perplexity": {}})
    made = run(asked, tmp_path / "run")
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), encoding="utf-8")
    checked, wrong = verify_passes(made.directory, 2)
    assert {each.what.removeprefix("geometry ") for each in wrong} == named
    assert checked == (0 if named else 2)
