"""Who names a metric: its own file and the table, and nobody else."""

import re
from pathlib import Path

import ropewalk
from ropewalk.metrics import METRICS

SOURCE = Path(ropewalk.__file__).parent
OWN = ("metrics", "tasks")
"""Where metrics are, and what `tasks` asks."""


def test_no_other_code_imports_a_metric_or_asks_for_its_options() -> None:
    names = "|".join(name for name in METRICS if name != "perplexity")  # what every other metric is held against
    named = re.compile(rf"ropewalk\.metrics\.({names})\b|ropewalk\.metrics import .*\b({names})\b|options\(\"")
    others = [path for path in SOURCE.rglob("*.py") if not str(path.relative_to(SOURCE)).startswith(OWN)]
    assert len(others) > 150
    assert [str(path.relative_to(SOURCE)) for path in others if named.search(path.read_text())] == []
