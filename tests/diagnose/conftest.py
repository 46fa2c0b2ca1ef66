"""Models of the export's and the models' tests are at hand here too."""

from __future__ import annotations

import sys
from pathlib import Path

for group in ("models", "export"):
    sys.path.append(str(Path(__file__).parents[1] / group))

from raw_servers import raw as raw  # noqa: E402
