"""examples/lm_eval_patched.py runs offline; with lm-eval alone, which [dev] leaves out for its 33 dependencies."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "lm_eval_patched.py"


@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed (pip install lm-eval)"
)
def test_cost_of_a_rotation_on_a_short_benchmark(tmp_path: Path) -> None:
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, cwd=tmp_path, env=quiet, check=False
    )
    assert done.returncode == 0, done.stderr
    values, differences = ([line.split() for line in part.splitlines()] for part in done.stdout.split("against none"))
    acc = {" ".join(row[:-2]): float(row[-2]) for row in values if row[-1:] == ["12.0"]}
    assert list(acc) == ["none", "linear factor=4", "linear factor=16"]
    assert acc["none"] >= 0.5  # chance is 0.25
    paired = {" ".join(row[:-2]): row[-2:] for row in differences}
    assert [float(number) for number in paired["none"]] == [0.0, 0.0]
    for label in ("linear factor=4", "linear factor=16"):
        assert abs(float(paired[label][0]) - (acc[label] - acc["none"])) < 1e-5
