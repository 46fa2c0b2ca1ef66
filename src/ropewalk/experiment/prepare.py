"""Everything a run needs before its first pass, refused in the order in which refusing is cheap."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from ropewalk import __version__
from ropewalk.corpus import (
    Document,
    KeySpans,
    Tokens,
    builtin_spans,
    chosen,
    load_documents,
    read_spans,
    require_length,
    that_fill,
    tokenize_all,
)
from ropewalk.corpus.chosen import Chosen
from ropewalk.corpus.tried import rendered
from ropewalk.corpus.windows import holds, require_windows, windows, windows_within
from ropewalk.errors import ExperimentError
from ropewalk.experiment import plan as planning
from ropewalk.experiment.plan import Plan
from ropewalk.experiment.schema import Experiment
from ropewalk.metrics.metric import Material, Prompt
from ropewalk.models import LoadedModel, ModelSpec, load, read_geometry, read_tokenizer
from ropewalk.models.patch import require_schemes
from ropewalk.models.source import find
from ropewalk.rope import RopeGeometry
from ropewalk.scoring.loop import require_known

Progress = Callable[[str, int, int], None]
"""Called with (what, tokens done, tokens in all)."""

SHORT_WINDOW = 1024
"""Models with windows up to this many tokens take the built-in spans made with short contexts."""

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """An experiment whose files, methods and model configuration are known to fit together.

    Attributes:
        loaded: a model in memory to measure, in place of loading `spec`.
    """

    experiment: Experiment
    spec: ModelSpec
    geometry: RopeGeometry
    documents: tuple[Document, ...]
    plan: Plan
    loaded: LoadedModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """An asked experiment with its model loaded and its documents tokenised; the plan counts what fits."""

    asked: Asked
    model: LoadedModel
    tokens: tuple[Tokens, ...]
    plan: Plan = field()


def ask(experiment: Experiment, loaded: LoadedModel | None = None) -> Asked:
    """Check everything that needs no weights; `loaded` is measured if given, whatever the experiment names.

    Raises:
        RopewalkError: the sentence says which key, which value, and what to do.
    """
    spec = ModelSpec.parse(experiment.model)
    planning.configurations(experiment.methods)  # refused before documents are read
    documents = load_documents(experiment.documents)
    geometry = read_geometry(spec) if loaded is None else loaded.geometry
    if experiment.window is not None:
        geometry = dataclasses.replace(geometry, window_override=experiment.window)
    asked = asked_of(experiment, geometry, documents, loaded)
    _require_key_source(asked)
    return asked


def _windows_at_most(experiment: Experiment, documents: int) -> int:
    """Windows of each document, if documents are long enough."""
    asked, longest = chosen(experiment.documents), experiment.lengths[-1]
    if asked.tokens is None:
        return int(asked.windows)
    return windows_within([longest + asked.tokens] * documents, longest, asked.tokens)


def asked_of(
    experiment: Experiment, geometry: RopeGeometry, documents: tuple[Document, ...], loaded: LoadedModel | None = None
) -> Asked:
    """The same from values that are known to fit together, without a look at any file."""
    configs = planning.configurations(experiment.methods)
    plan = planning.make(experiment, geometry, len(documents) * _windows_at_most(experiment, len(documents)), configs)
    spec = ModelSpec.parse(experiment.model)
    return Asked(experiment=experiment, spec=spec, geometry=geometry, documents=documents, plan=plan, loaded=loaded)


def ready_spans(asked: Asked, documents: Sequence[Document]) -> tuple[KeySpans, ...] | None:
    """Key spans that exist already, in the order of the documents; None where an evaluator has to find them.

    Raises:
        CorpusError: they cannot be read, or there are none for some document.
    """
    keys = asked.experiment.key_options
    if keys is None or keys.spans is None:
        return None
    if keys.spans == "builtin":
        return builtin_spans(documents, "short" if asked.geometry.window("stack").length <= SHORT_WINDOW else "long")
    return read_spans(keys.spans, documents)


def _require_key_source(asked: Asked) -> None:
    """Refuse missing spans, or an evaluator that cannot be, before any weights are read."""
    keys, count = asked.experiment.key_options, chosen(asked.experiment.documents).count
    if keys is not None and keys.evaluator not in (None, "self"):
        evaluator = ModelSpec.parse(keys.evaluator)
        read_geometry(evaluator)
        find(evaluator)  # a directory has to hold weights
    ready_spans(asked, asked.documents if count is not None else asked.documents[:1])


def prepare(asked: Asked, *, exact: bool = False) -> Prepared:
    """Tokenise the documents and load the model, in this order: weights are read when nothing else can fail.

    Raises:
        RopewalkError: the model cannot be loaded, or a document is too short for the longest length.
    """
    experiment, loaded = asked.experiment, asked.loaded
    if exact and loaded is not None:
        raise ExperimentError(
            f"exact: the model {asked.spec.id!r} in memory keeps its dtype and attention; give its name instead."
        )
    tokenizer = read_tokenizer(asked.spec) if loaded is None else loaded.tokenizer
    tokens = _tokens(asked, tokenizer)
    for metric, options in experiment.asked():
        if metric.prompts is not None:  # too short, or no chat template; files may be wrong at any length
            made = material(tokenizer, tokens[0], experiment.seed)
            for length in experiment.lengths if metric.read is not None else experiment.lengths[:1]:
                metric.prompts(options, made, length)
        if metric.fits is not None and (wrong := metric.fits(options, tokens[0].bos)):
            raise ExperimentError(f"{wrong}.")
    model = loaded or load(
        asked.spec,
        dtype="float32" if exact else experiment.dtype,
        attn_implementation="eager" if exact else None,
        tokenizer=tokenizer,
    )
    for each in tokens:
        require_known(model.model, each.ids)
    require_schemes(model.model, asked.plan.schemes.values())
    plan = dataclasses.replace(asked.plan, documents=len(tokens))
    return Prepared(asked=asked, model=model, tokens=tokens, plan=plan)


def _tokens(asked: Asked, tokenizer: Any) -> tuple[Tokens, ...]:
    """The documents that are measured: all that fill the longest length, or the asked count, which all must."""
    longest, source = asked.experiment.lengths[-1], chosen(asked.experiment.documents)
    tokens = tuple(tokenize_all(tokenizer, asked.documents, upto=longest if source.windows == 1 else None))
    if source.count is None:
        tokens = that_fill(tokens, longest)
    for document in tokens:
        require_length(document, longest)
    return tokens if source.windows == 1 else _stretches(tokens, longest, source)


def _stretches(tokens: Sequence[Tokens], longest: int, source: Chosen) -> tuple[Tokens, ...]:
    """The windows of every document, in order; without a `count`, of all that hold so many."""
    if source.tokens is not None:
        count = windows_within([len(each) for each in tokens], longest, source.tokens)
    else:
        count = int(source.windows)
        if source.count is None:
            tokens = [each for each in tokens if holds(len(each), longest) >= count] or tokens
    require_windows([(each.id, len(each)) for each in tokens], longest, count)
    return tuple(each.stretch(start, longest) for each in tokens for start in windows(len(each), longest, count))


def document_row(index: int, tokens: Tokens) -> dict[str, Any]:
    """A document, or a window of one, as the store's table keeps it; `cluster` is the document's own id."""
    document = tokens.document
    return {
        "document": index,
        "id": tokens.id,
        "title": document.title,
        "kind": document.kind,
        "source": document.source,
        "licence": document.licence,
        "sha256": document.sha256,
        "tokens": len(tokens.ids),
        "cluster": document.id,
        "start": tokens.start or 0,
    }


def prompts(prepared: Prepared, metric: str, length: int) -> Sequence[Prompt]:
    """The prompts of a metric at one length.

    Raises:
        ExperimentError: the length is too short, or the tokenizer lacks what was asked for.
    """
    asked = prepared.asked.experiment
    of_metric = {found.name: (found, options) for found, options in asked.asked()}
    found, options = of_metric[metric]
    assert found.prompts is not None
    return found.prompts(options, material(prepared.model.tokenizer, prepared.tokens[0], asked.seed), length)


def material(tokenizer: Any, haystack: Tokens, seed: int) -> Material:
    """What prompts are made of under a tokenizer; `haystack` is the first document, and says whether BOS goes first."""

    return Material(
        encode=encoder(tokenizer),
        encode_whole=lambda text: tokenizer(text, verbose=False)["input_ids"],
        chat=partial(rendered, tokenizer) if tokenizer.chat_template else None,
        bos_id=tokenizer.bos_token_id if haystack.bos else None,
        prose=haystack.ids[1 if haystack.bos else 0 :].tolist(),
        seed=seed,
        first_id=tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
    )


def encoder(tokenizer: Any) -> Callable[[str], Sequence[int]]:
    """Text to token ids, without special tokens."""
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def versions() -> Mapping[str, str]:
    """Versions of what the numbers depend on, and the commit of a checkout that runs in place."""
    found = {"python": platform.python_version(), "ropewalk": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    commit = _commit(Path(__file__).parents[3])
    return found if commit is None else {**found, "commit": commit}


def _commit(folder: Path) -> str | None:
    """`git describe` of ropewalk's checkout, with "-dirty" for changed sources; None where it is installed."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def geometry_facts(geometry: RopeGeometry) -> dict[str, Any]:
    """The geometry as the run records it."""
    window = geometry.window("replace")
    more = {"softmax_mscale": True} if geometry.softmax_mscale else {}  # older runs do not have it
    return more | {
        "window": window.length,
        "window_source": window.source,
        "shipped_window": geometry.window("stack").length,
        "rotary_dim": geometry.rotary_dim,
        "rope_theta": geometry.rope_theta,
        "rope_type": geometry.rope_parameters.get("rope_type", "default"),
        "rope_parameters": dict(geometry.rope_parameters),
        "layer_type": geometry.layer_type,
        "max_position_embeddings": geometry.max_position_embeddings,
        "original_max_position_embeddings": geometry.original_max_position_embeddings,
        "window_override": geometry.window_override,
    }
