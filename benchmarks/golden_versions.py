"""What changed between two versions of transformers, from what `ropewalk golden` wrote under each: a table of Markdown.

python benchmarks/golden_versions.py OLD/index.json docs/results/golden.json
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from ropewalk.diagnosis.golden import differences

SHOWN = 160
"""Characters of a case."""


def main() -> None:
    """Classes that differ alike share a row."""
    old, new = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:])
    rows = differences(old["classes"], new["classes"])
    alike = defaultdict[tuple[str, str, str], list[str]](list)
    for name, case, one, other in rows:
        alike[case, one[:SHOWN], other[:SHOWN]].append(name)
    both = set(old["classes"]) & set(new["classes"])
    same = len(both - {name for name, *_ in rows})
    print(f"{len(both)} classes are in both; {same} of them are the same to the last digit of their fingerprints.\n")
    print(f"| classes | case | {old['transformers']} | {new['transformers']} |\n|---|---|---|---|")
    for (case, one, other), names in alike.items():
        print(f"| {', '.join(names)} | {case or 'all'} | {one} | {other} |")


if __name__ == "__main__":
    main()
