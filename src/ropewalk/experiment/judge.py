"""Whether a stored passkey trial succeeded; apart from the making of trials, so that reading a run needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ropewalk.metrics import passkey


def succeeded(row: Mapping[str, Any]) -> bool:
    """Judge a stored trial anew from its raw outcome."""
    if row["answer"] is None:
        found = re.search(r"\d+", row["text"])
        return found is not None and int(found.group()) == int(row["key"])
    predicted = np.array(json.loads(row["predicted"]), dtype=np.int32)
    return passkey.exact(predicted, np.array(json.loads(row["answer"]), dtype=np.int32), row["text"])
