"""Metrics: what each asks of a model, and the per-unit numbers out of it; pure.

A new metric is one file beside this one, one line of METRICS, and one row of tests/metrics/metric_table.py; another
package registers one by an entry point of the group `ropewalk.metrics` that loads to a Metric.
"""

from __future__ import annotations

from collections.abc import Mapping

from ropewalk.errors import ExperimentError
from ropewalk.metrics import lm_eval, longppl, passkey, perplexity, ruler, tasks
from ropewalk.metrics.metric import Metric, Options
from ropewalk.plugins import plugged_in
from ropewalk.stats.column import Column

__all__ = ["METRICS", "Metric", "Options", "column", "columns", "registered"]

METRICS: dict[str, Metric] = {
    "perplexity": perplexity.METRIC,
    "longppl": longppl.METRIC,
    "passkey": passkey.METRIC,
    "tasks": tasks.METRIC,
    "ruler": ruler.METRIC,
    "lm_eval": lm_eval.METRIC,
}


def registered() -> Mapping[str, Metric]:
    """The built-in metrics and those of installed packages, by name. Raises ExperimentError for a broken package."""
    return METRICS | plugged_in("ropewalk.metrics", Metric, METRICS, ExperimentError)


def columns() -> Mapping[str, tuple[Metric, Column]]:
    """Every column of every metric, by its name, with the metric that reports it.

    Raises:
        ExperimentError: a package adds a column whose name is taken.
    """
    found: dict[str, tuple[Metric, Column]] = {}
    for metric in registered().values():
        for each in metric.columns:
            if each.name in found:
                raise ExperimentError(
                    f"metric {metric.name!r}: its column {each.name!r} is one of {found[each.name][0].name!r} already; "
                    "rename it there, or uninstall that package."
                )
            found[each.name] = metric, each
    return found


def column(name: str) -> Column:
    """The column of that name. Raises ExperimentError where no metric reports it."""
    known = columns()
    if name not in known:
        raise ExperimentError(
            f"no metric reports {name!r} (all: {', '.join(known)}); install the package that the run was made with."
        )
    return known[name][1]
