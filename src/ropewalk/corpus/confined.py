"""Work on what others wrote, in a process of its own with limits of time and memory: nothing stops a tokenizer's
regular expression, or the power of two numbers in a chat template, from within the process that it runs in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

JOBS = Path(__file__).with_name("confined_jobs.py")
MEMORY = 2**30
"""Bytes of address space of such a process beyond its libraries."""


class OutOfBounds(Exception):
    """The work took too long or too much memory, crashed, or raised; the text says which."""


def confined(job: str, given: Mapping[str, Any], seconds: float) -> Any:
    """What a function of confined_jobs.py makes of JSON values.

    Raises:
        OutOfBounds: it gave nothing within `seconds` (to start Python and import libraries not counted) and MEMORY.
    """
    command = [sys.executable, "-P", str(JOBS), job, str(MEMORY), str(seconds)]
    quiet = os.environ | {"TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0", "CUDA_VISIBLE_DEVICES": ""}
    late = f"more than {seconds:.0f} s"
    try:
        done = subprocess.run(command, input=json.dumps(given).encode(), capture_output=True, env=quiet,
                              timeout=seconds + 60)  # fmt: skip
        answer = json.loads(done.stdout) if done.returncode != -signal.SIGALRM else {"reason": late}
    except subprocess.TimeoutExpired:
        raise OutOfBounds(late) from None
    except ValueError:
        raise OutOfBounds("it crashed, or took too much memory") from None
    if "reason" in answer:
        raise OutOfBounds(str(answer["reason"]))
    return answer["value"]
