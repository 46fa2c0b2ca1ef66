"""Two rotations: the unscaled one near, that of any frequency method far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator
from typing_extensions import override

from ropewalk.errors import MethodError
from ropewalk.methods import (
    abf,
    cope,
    dynamic_ntk,
    linear,
    llama3,
    longrope,
    mrrope,
    ntk_aware,
    ntk_by_parts,
    ntk_fixed,
    ntk_mixed,
    proportional,
    resonance,
    yarn,
)
from ropewalk.methods.method import KIND, Method, Params
from ropewalk.methods.near_far import NearFar, near_far
from ropewalk.methods.parameters import Kind
from ropewalk.methods.reading import did_you_mean, plain, read
from ropewalk.methods.resolving import method_depends_on_length, resolve_method
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Positions, Scheme

FAR: dict[str, Method] = {
    entry.METHOD.name: entry.METHOD
    for entry in (
        *(linear, ntk_aware, ntk_by_parts, dynamic_ntk, yarn, llama3, longrope, abf, mrrope),
        *(proportional, cope, ntk_fixed, ntk_mixed, resonance),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Kind):
    """A frequency method with its parameters, as an experiment file writes it: `{yarn: {factor: 4}}`."""

    type = "mapping"

    @property
    @override
    def range(self) -> str:
        return f"one of {', '.join(FAR)} with its parameters, such as {{yarn: {{factor: 4}}}}"

    @property
    @override
    def annotation(self) -> Any:
        return Annotated[Any, AfterValidator(_frequency)]

    @override
    def plain(self, value: Any) -> Any:
        return {value.method: plain(value)}


def _frequency(value: object) -> Params:
    if isinstance(value, Params) and value.method in FAR:
        return value
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError
    ((name, raw),) = value.items()
    if name not in FAR:
        raise MethodError(f"bifocal: far={name!r} is no frequency method{did_you_mean(str(name), FAR, {})}.")
    return read(FAR[name], raw or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bifocal(NearFar):
    method: ClassVar[str] = "bifocal"
    far: Params = field(
        metadata={KIND: Named(doc="the method of far tokens", remedy="write e.g. far: {yarn: {factor: 4}}")}
    )


def bifocal(geometry: RopeGeometry, params: Bifocal, length: int) -> Scheme:
    """Distances t < w under the unscaled rotation, others under that of `far`, at the positions that they have."""
    far = resolve_method(FAR[params.far.method], geometry, params.far, length).rotation
    return near_far(geometry, params.w, query=Positions(), far=far)


def varies(geometry: RopeGeometry, params: Bifocal) -> bool:
    """As the far method does."""
    return method_depends_on_length(FAR[params.far.method], geometry, params.far)


METHOD = Method(
    name="bifocal",
    params=Bifocal,
    function=bifocal,
    paper="ropewalk's own",
    summary="Near tokens exact at any length, far ones as a frequency method would have them.",
    formula="t < w: f_i t; else f_i t / lambda_i of far, times its A",
    varies=varies,
)
