"""Load a model, read its RoPE geometry, and run it with other rotations."""

from ropewalk.model_spec import ModelSpec
from ropewalk.models.geometry import geometry_of
from ropewalk.models.load import LoadedModel, ModelProvenance, load, read_geometry, read_tokenizer
from ropewalk.models.patch import patched

__all__ = [
    "LoadedModel",
    "ModelProvenance",
    "ModelSpec",
    "geometry_of",
    "load",
    "patched",
    "read_geometry",
    "read_tokenizer",
]
