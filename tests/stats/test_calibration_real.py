"""Do the intervals hold on differences as they are? Resampled from real losses; figures quoted in docs/statistics.md.

real_losses.json holds the mean nll of strand on some hundred pieces of the built-in texts under seven configurations
(`python tools/real_losses.py`). An experiment draws documents from them with replacement; the truth is their mean.
"""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from blocks_for_tests import nll_block
from scipy import stats

from ropewalk.stats.best import best_set
from ropewalk.stats.compare import compare_to
from ropewalk.stats.paired import paired_t

LOSSES = {
    k: v for k, v in json.loads(Path(__file__).with_name("real_losses.json").read_text()).items() if k != "origin"
}
EXPERIMENTS = 2000
SEED = 77003


def differences(metric: str) -> dict[tuple[str, str], np.ndarray]:
    """Piece by piece, of every pair of configurations."""
    found = {key.removeprefix(f"{metric} "): np.array(value) for key, value in LOSSES.items() if key.startswith(metric)}
    return {(a, b): found[a] - found[b] for a, b in combinations(found, 2)}


PAIRS = [(metric, pair, values) for metric in ("perplexity", "tail") for pair, values in differences(metric).items()]


def covered(values: np.ndarray, n: int, experiments: int) -> float:
    """Share of experiments whose 95 % interval holds the mean of all pieces."""
    drawn = np.random.default_rng(SEED).choice(values, (experiments, n))
    low, high = np.array([(i.low, i.high) for i in (paired_t(row, np.zeros(n)).interval for row in drawn)]).T
    return float(np.mean((low <= values.mean()) & (values.mean() <= high)))


@pytest.mark.parametrize(("n", "low", "high"), [(8, 0.94, 0.98), (16, 0.93, 0.97), (50, 0.93, 0.97)])
def test_paired_t_covers_real_differences(n: int, low: float, high: float) -> None:
    """2,000 experiments, spread over all pairs of configurations and both metrics."""
    each = -(-EXPERIMENTS // len(PAIRS))
    assert low <= np.mean([covered(values, n, each) for _, _, values in PAIRS]) <= high


@pytest.mark.parametrize(("n", "low", "high"), [(8, 0.90, 0.94), (16, 0.91, 0.95), (50, 0.92, 0.96)])
def test_the_most_skewed_pair_is_covered_too_little(n: int, low: float, high: float) -> None:
    """linear against yarn, skewness 1.2: some texts suffer far more from it than others."""
    worst = max((values for _, _, values in PAIRS), key=lambda values: abs(stats.skew(values)))
    assert 1.1 <= abs(stats.skew(worst)) <= 1.3
    assert low <= covered(worst, n, EXPERIMENTS) <= high


@pytest.mark.parametrize("metric", ["perplexity", "tail"])
@pytest.mark.parametrize("n", [8, 16, 50])
def test_no_difference_no_alarm_on_real_differences(metric: str, n: int) -> None:
    """Every configuration shifted to the mean of `none`, documents resampled: Holm and the best set rarely err."""
    found = {key.removeprefix(f"{metric} "): np.array(x) for key, x in LOSSES.items() if key.startswith(metric)}
    found = {label: values - values.mean() + found["none"].mean() for label, values in found.items()}
    rng = np.random.default_rng(SEED + 1)
    picks = rng.integers(0, found["none"].size, (500, n))
    blocks = [nll_block({label: values[pick] for label, values in found.items()}) for pick in picks]
    alarms = [any((row.adjusted_p or 1.0) <= 0.05 for row in compare_to(block, "none")) for block in blocks]
    assert np.mean(alarms) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 500)
    assert np.mean([len(best_set(block).excluded) > 0 for block in blocks]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 500)
