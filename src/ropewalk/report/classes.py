"""What a method changes, read off the scheme that it gives; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.methods import Params
from ropewalk.methods.file_content import FileContent
from ropewalk.methods.method import parameters

AS_SHIPPED, ROTATION, TEMPERATURE, ATTENTION, TUNED, CONTEXT = ORDER = (
    "as it ships",
    "rotation",
    "temperature",
    "attention",
    "tuned",
    "context",
)


def class_of(scheme: Mapping[str, Any], shipped: Mapping[str, Any], params: type[Params], *, cut: bool) -> str:
    """What a configuration changes, the most unusual first.

    Args:
        scheme: what its passes ran under, as stored.
        shipped: the same of the model as it ships.
        params: of its method; what was found for one model comes in a file.
        cut: only the end of the context is fed.
    """
    if cut:
        return CONTEXT
    if any(isinstance(each.kind, FileContent) for each in parameters(params).values()):
        return TUNED
    if scheme.get("branches"):
        return ATTENTION
    if scheme == shipped:
        return AS_SHIPPED
    return TEMPERATURE if scheme["rotation"] == shipped["rotation"] else ROTATION
