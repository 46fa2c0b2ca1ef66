"""What a rotation costs on a short-context benchmark: lm-eval's tasks under every method, item by item.

Offline, on the twelve items beside this file; put names of lm-eval's tasks in place of next_word where there is a
network, and leave include_path out. Needs `pip install 'ropewalk[lm-eval]'` (written with 0.4.13).
"""

from pathlib import Path

import ropewalk as rw

asked = {"tasks": ["next_word"], "include_path": str(Path(__file__).parent / "lm_eval_tasks")}
linear = {"linear": {"factor": [4, 16]}}
run = rw.sweep("strand", methods=linear, lengths=[256], metrics={"lm_eval": asked}, out="next_word")
right = run.samples().pivot(index="unit", columns="label", values="numerator")[run.frame()["label"]]
print(right.agg(["mean", "count"]).T, right.sub(right["none"], axis=0).agg(["mean", "sem"]).T, sep="\n\nagainst none\n")
