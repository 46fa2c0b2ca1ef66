"""Compare every rope architecture of the installed transformers with ropewalk, and write docs/models.md.

    python tools/zoo.py [CLASS ...]

With classes named, only these are compared and printed. About three minutes on one core; under 2 GB of memory.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "zoo"))

from zoo_compare import Verdict, compare
from zoo_models import architectures
from zoo_table import PATH, written


def main() -> None:
    """Compare, print a line each, and write the table unless some were named."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    named, found = sys.argv[1:], dict[str, tuple[str, Verdict]]()
    for name, model_type in architectures().items():
        if named and name not in named:
            continue
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            verdict = compare(name, model_type, Path(directory))
        found[name] = model_type, verdict
        print(f"{verdict.status:18} {name} ({time.monotonic() - start:.1f} s) {verdict.note}", flush=True)
    if not named:
        PATH.write_text(written(found), encoding="utf-8")


if __name__ == "__main__":
    main()
