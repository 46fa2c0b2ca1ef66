"""The command line: parse, wire, print. stdout is data, stderr is progress; exit 0 done, 1 a cell failed, 2 usage.

A command is a function in one of these files; the order of imports is that of the help.
"""

from __future__ import annotations

import os
import signal
import sys

# isort: off
from ropewalk.cli import looking, tasks, measuring, spreading, answering, diagnosing, verifying, tuning
from ropewalk.cli import exporting

# isort: on
from ropewalk.cli.arguments import parse_bytes, parse_lengths, parse_parameters
from ropewalk.cli.options import app, err
from ropewalk.errors import RopewalkError


def main() -> None:
    """Entry point of the console script; SIGTERM, which batch systems send, ends a run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # threads that spin while they wait cost a sweep ten times its time beside another busy program
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
    from ropewalk.terminal import run_app

    sys.exit(run_app(app, err))


__all__ = [
    "RopewalkError",
    "answering",
    "app",
    "diagnosing",
    "err",
    "exporting",
    "looking",
    "main",
    "measuring",
    "parse_bytes",
    "parse_lengths",
    "parse_parameters",
    "spreading",
    "tasks",
    "tuning",
    "verifying",
]
