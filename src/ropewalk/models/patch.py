"""Run a model under another scheme than its own, and put everything back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from ropewalk.errors import ModelError
from ropewalk.models.forward import Rotary, forward_of
from ropewalk.models.geometry import geometry_of
from ropewalk.models.heeding import heeded, passing_of
from ropewalk.models.layout import layout_of, rotary_modules, stock_forward
from ropewalk.models.replaced import replaced
from ropewalk.models.softmax import attentions, scaled_softmax
from ropewalk.models.turning import Passing
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Scheme


@contextmanager
def patched(model: Any, scheme: Rotation | Scheme | Sequence[Rotation | Scheme]) -> Iterator[None]:
    """Run `model` under another scheme than its own inside the block.

    One scheme holds for every row of a batch; of a sequence, the i-th holds for the i-th row. A rotation alone stands
    for the scheme that has nothing beside it. In models with several kinds of layers only those of
    `geometry_of(config).layer_type` change. Key-value caches filled under another scheme must not be reused inside.

    Raises:
        ModelError: the model has no rotary module, lays out cos and sin in an unknown way, rotates by rounded or
            by different frequencies, or is patched already; a rotation does not fit; rotations differ in their softmax
            factor; inside the block, a batch has another number of rows than there are rotations.
    """
    geometry = geometry_of(model.config)
    schemes = as_schemes(scheme)
    rotations = tuple(each.rotation for each in schemes)
    modules = rotary_modules(model)
    _check_rotations(rotations, geometry)
    helped = None if all(each.only_rotates for each in schemes) else passing_of(model, schemes, geometry, modules)
    with ExitStack() as stack:
        for module in modules:
            forward = _forward(module, rotations, geometry.layer_type, helped)
            stack.enter_context(replaced(module, forward))
        stack.enter_context(scaled_softmax(model, geometry, rotations))
        if helped is not None:
            stack.enter_context(heeded(model, helped))
        yield


def _forward(
    module: nn.Module, rotations: tuple[Rotation, ...], layer_type: str | None, helped: Passing | None
) -> Callable[..., Rotary]:
    """Our forward for the place of a rotary module's own."""
    stock = stock_forward(module)
    layout, casts = layout_of(module, stock, layer_type)
    device = next(module.buffers()).device
    return forward_of(rotations, stock, layer_type, layout=layout, casts=casts, device=device, passing=helped)


def as_schemes(given: Rotation | Scheme | Sequence[Rotation | Scheme]) -> tuple[Scheme, ...]:
    """Schemes, one per row or one for all, of what `patched` is given.

    Raises:
        ModelError: a scheme cuts the context, which is the business of whoever feeds the tokens.
    """
    each = (given,) if isinstance(given, (Rotation, Scheme)) else given
    schemes = tuple(Scheme(rotation=one) if isinstance(one, Rotation) else one for one in each)
    cut = [scheme.context for scheme in schemes if scheme.context is not None]
    if cut:
        raise ModelError(
            f"patched() was given a scheme with context={cut[0]}, which says how many tokens to feed, not how to run "
            "them; feed the last so many tokens, under `scheme.fed`."
        )
    return schemes


def require_schemes(model: Any, schemes: Iterable[Scheme]) -> None:
    """Refuse schemes that `patched` would refuse, before anything is measured.

    Raises:
        ModelError: as `patched` does.
    """
    for scheme in schemes:
        if not scheme.only_rotates:
            with patched(model, scheme.fed):
                pass


def check_patchable(model: Any) -> None:
    """Refuse a model that `patched` would refuse.

    Raises:
        ModelError: as `patched` does.
    """
    geometry = geometry_of(model.config)
    for module in rotary_modules(model):
        layout_of(module, stock_forward(module), geometry.layer_type)
    attentions(model, geometry)


def _check_rotations(rotations: tuple[Rotation, ...], geometry: RopeGeometry) -> None:
    if not rotations:
        raise ModelError("patched() was given no rotation; give one for all rows, or one per batch row.")
    for rotation in rotations:
        if 2 * rotation.inv_freq.size != geometry.rotary_dim:
            raise ModelError(
                f"The rotation has {rotation.inv_freq.size} frequencies, but rotary_dim={geometry.rotary_dim} needs "
                f"{geometry.rotary_dim // 2}; resolve the method with the geometry of this model."
            )
