"""Methods that tell far tokens other positions are refused with what comes nearest."""

import pytest

from ropewalk.errors import ExportError
from ropewalk.export.request import Checkpoint, request
from ropewalk.rope import RopeGeometry


@pytest.mark.parametrize("length", [None, 1024])
@pytest.mark.parametrize("method", ["rerope", "leaky_rerope", "self_extend", "dca", "jet_long", "streaming"])
def test_branches_are_refused_with_what_comes_nearest(method: str, length: int | None) -> None:
    geometry = RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=256)
    raw = {"neighbor_window": 64} if method != "dca" else {}
    with pytest.raises(ExportError, match=rf"^{method}: tells far tokens .* comes nearest is a rotation"):
        request(geometry, method, raw, length, Checkpoint())
