"""Pure statistics over per-document and per-trial numbers; see docs/statistics.md for procedures and calibration."""

from ropewalk.stats.intervals import Interval, wilson
from ropewalk.stats.paired import Paired, holm, mcnemar_exact, paired_ratio, paired_t
from ropewalk.stats.pooled import ratio_interval

__all__ = ["Interval", "Paired", "holm", "mcnemar_exact", "paired_ratio", "paired_t", "ratio_interval", "wilson"]
