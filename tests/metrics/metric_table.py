"""One row per metric: options to try it with. A new metric is one row here and gets every law of test_metric_laws."""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A metric of the table.

    Attributes:
        name: in METRICS.
        options: its section, smaller than by default.
        refused: a section that its options do not allow.
    """

    name: str
    options: dict[str, Any]
    refused: dict[str, Any]


RULER = {
    "files": "ruler",
    "held": [{"length": 768, "task": "qa_1", "samples": 2, "sha256": "0" * 16}],
}
LM_EVAL = {
    "tasks": ["arc_easy"],
    "held": [{"task": "arc_easy", "prompts": 8, "new_tokens": 0, "normalized": True, "sha256": "0" * 16}],
}
ROWS = (
    Row("perplexity", {"stride": 16}, {"stride": 0}),
    Row("longppl", {"spans": "builtin"}, {"spans": "builtin", "alpha": "much"}),
    Row("passkey", {"trials": 3}, {"trials": 0}),
    Row("tasks", {"samples": 2}, {"tasks": ["none of them"]}),
    Row("ruler", RULER, {"files": ""}),
    Row("lm_eval", LM_EVAL, {"tasks": []}),
)
