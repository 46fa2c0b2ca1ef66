"""What a rotation costs on a short-context benchmark: lm-eval's tasks under every method, paired item by item.

Offline, on the twelve items beside this file; put names of lm-eval's tasks in place of next_word where there is a
network, and leave include_path out. Needs `pip install 'ropewalk[lm-eval]'` (written with 0.4.13).
"""

from pathlib import Path

import ropewalk as rw

asked = {"tasks": ["next_word"], "include_path": str(Path(__file__).parent / "lm_eval_tasks")}
run = rw.sweep(
    "strand", methods={"linear": {"factor": [4, 16]}}, lengths=[256], metrics={"lm_eval": asked}, out="runs/next_word"
)
print(run.frame()[["label", "value", "ci_low", "ci_high", "n"]].to_string(index=False))
print(run.samples().pivot(index="unit", columns="label", values="numerator").to_string())
