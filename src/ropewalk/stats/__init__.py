"""Pure statistics over per-document and per-trial numbers; see docs/statistics.md for procedures and calibration."""
