"""The experiment file: what was asked, checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import override

from ropewalk.errors import ExperimentError
from ropewalk.files import read_regular
from ropewalk.methods import inline, pasted_scaling
from ropewalk.metrics import Metric, registered
from ropewalk.validation import Place, sentence, tokens

MAX_FILE_BYTES = 200_000
"""What takes seconds to read; experiment files have some thousand bytes."""
MAX_DIGITS = 100
MAX_LENGTH = 2**24
STORED = "stored"

Length = Annotated[int, BeforeValidator(tokens), Field(ge=4, le=MAX_LENGTH, strict=True)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def metrics_model() -> type[BaseModel]:
    """The section `metrics`: a key per registered metric, each None unless it is asked for."""
    return _made(tuple((name, metric.options) for name, metric in registered().items()))


@cache
def _made(options: tuple[tuple[str, type[BaseModel]], ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {name: (own | None, None) for name, own in options}
    return create_model("Metrics", __config__=ConfigDict(extra="forbid", frozen=True, strict=True), **fields)


def _metrics(data: Any) -> Any:
    if isinstance(data, BaseModel) or not isinstance(data, Mapping):
        return data
    found = metrics_model().model_validate({k: {} if v is None else v for k, v in data.items()})
    if not found.model_fields_set:
        names = list(registered())
        raise ValueError(f"names no metric; use {', '.join(names[:-1])} or {names[-1]}")
    return found


Metrics = Annotated[SerializeAsAny[BaseModel], BeforeValidator(_metrics)]


class Tune(_Section):
    """What `ropewalk tune` is asked beside its options; nothing to a sweep."""

    probes: Annotated[int, Field(ge=1, le=1000)] = 5
    """Prompts per length that named methods and seeds are chosen by, where a metric of the file gives some."""
    max_short_cost: Annotated[float, Field(gt=-100, allow_inf_nan=False)] | None = None
    """Largest loss of perplexity inside the window against `none`, per cent; `--max-short-cost` goes before it."""


class Experiment(_Section):
    """One sweep: model x methods x lengths x metrics on the same documents and prompts."""

    model: str | dict[str, Any]
    """Hub id, directory, .gguf file or built-in name; or a mapping, to say more."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; auto is the checkpoint's on accelerators, and on a CPU bfloat16 if it has instructions for it."""
    lengths: Annotated[list[Length], Field(min_length=1)]
    """Tokens, at least 4; 4k is 4096. One inside the window shows what a method costs there."""
    documents: dict[str, Any] = Field(default_factory=lambda: {"corpus": "builtin"})
    """The texts that are measured, the same for every method; the built-in books if left out."""
    methods: dict[str, Any]
    """Method names to parameters; a list of values makes one configuration each. `none` and `truncate` always run."""
    metrics: Metrics
    """What is measured; at least one."""
    window: Annotated[int, BeforeValidator(tokens), Field(ge=1, le=MAX_LENGTH)] | None = None
    """Trained window, tokens, where the checkpoint's own configuration names another number."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of everything that is drawn."""
    tune: Tune | None = None
    """What `ropewalk tune` is asked beside its options."""

    @field_validator("model", mode="before")
    @classmethod
    def _named(cls, model: Any) -> Any:
        if not isinstance(model, (str, dict)):
            raise ValueError("must be a name such as strand, or a mapping with the key id")
        return model

    @field_validator("lengths")
    @classmethod
    def _sorted(cls, lengths: list[int]) -> list[int]:
        if len(set(lengths)) != len(lengths):
            raise ValueError("holds the same length twice; remove one")
        return sorted(lengths)

    @field_validator("methods", mode="before")
    @classmethod
    def _some_method(cls, methods: Any, info: ValidationInfo) -> Any:
        if isinstance(methods, list) and all(isinstance(name, str) for name in methods):
            methods = dict.fromkeys(methods)
        if not isinstance(methods, Mapping) or not methods:
            raise ValueError("must map method names to their parameters, such as yarn: {factor: [2, 4]}")
        if info.context == STORED:
            return methods
        if meant := pasted_scaling(methods):
            raise ValueError(meant)
        return {name: inline(name, grid) for name, grid in methods.items()}

    @model_validator(mode="after")
    def _fit_together(self) -> Experiment:
        dialects: dict[str, str] = {}
        for metric, options in self.asked():
            other = dialects.setdefault(metric.dialect or metric.name, metric.name)
            if other != metric.name:
                raise ValueError(
                    f"metrics.{other} and metrics.{metric.name} are two dialects of {metric.dialect}, whose numbers "
                    "must not stand beside each other; write an experiment of its own for each"
                )
            wrong = metric.check and metric.check(options, self.lengths[0])
            if wrong:
                raise ValueError(wrong)
        return self

    def asked(self) -> list[tuple[Metric, Any]]:
        """The metrics that are asked for, with their options, in the order of the table."""
        every = ((metric, getattr(self.metrics, name, None)) for name, metric in registered().items())
        return [(metric, options) for metric, options in every if options is not None]

    @property
    def key_options(self) -> Any:
        """The options of the metric that is made of key tokens; None if none is asked for."""
        return next((options for metric, options in self.asked() if "key" in metric.arrays), None)

    def options(self, metric: str) -> Any:
        """The options of one metric; None if it is not asked for."""
        return getattr(self.metrics, metric, None)

    def resolved(self) -> dict[str, Any]:
        """JSON value of everything that a sweep is asked, defaults filled in; what is None is left out."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"tune"})


def stored(raw: Any) -> Experiment:
    """What a run recorded, which names no file to read.

    Raises:
        ValueError: it is no experiment.
    """
    return Experiment.model_validate(raw, context=STORED)


def parse(raw: Any, place: str) -> Experiment:
    """Check a mapping read from YAML.

    Raises:
        ExperimentError: one sentence naming the key, the value and the remedy, or the file and what is wrong with it.
    """
    if not isinstance(raw, Mapping):
        raise ExperimentError(
            f"{place}: must be a mapping with the keys model, lengths, methods, metrics, and is {type(raw).__name__}; "
            "`ropewalk init MODEL` prints one."
        )
    if meant := pasted_scaling({name: raw[name] for name in ("rope_scaling", "rope_parameters") if name in raw}):
        raise ExperimentError(f"{place}: {meant}.")
    if "models" in raw or "where_installed" in raw:
        raise ExperimentError(
            f"{place}: models is a suite, which `ropewalk run` and `ropewalk plan` take; name one model here, with "
            "the key model."
        )
    if "search" in raw:
        raise ExperimentError(
            f"{place}: the section search gave way to tune, which takes of it "
            f"{' and '.join(Tune.model_fields)}; rename it, leave the rest out, and run ropewalk tune FILE "
            "--what rotation."
        )
    try:
        return _read_files(Experiment.model_validate(dict(raw)))
    except ValidationError as error:
        raise ExperimentError(f"{place}: {sentence(error, _defaults)}") from None


def _read_files(experiment: Experiment) -> Experiment:
    """An experiment whose metrics say what the files hold that they name."""
    held = {
        metric.name: metric.read(options, experiment.lengths)
        for metric, options in experiment.asked()
        if metric.read is not None
    }
    if not held:
        return experiment
    return experiment.model_copy(update={"metrics": experiment.metrics.model_copy(update=held)})


def read(path: Path) -> str:
    """An experiment file as written.

    Raises:
        ExperimentError: it is missing, too large, or no text.
    """
    try:
        return read_regular(path, MAX_FILE_BYTES).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        reason = "its name holds a NUL" if "\0" in str(path) else reason
        raise ExperimentError(
            f"{path}: cannot read this experiment file ({reason}); name a YAML file or preset:NAME."
        ) from None


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses aliases (which can grow without bound), keys given twice, and numbers that take long to
    read: of many digits, or to the base 60 (`1:30`)."""

    def _require_short(self, node: yaml.ScalarNode) -> None:
        if len(node.value) > MAX_DIGITS or ":" in node.value:
            reason = f"a number is plain and has at most {MAX_DIGITS} characters; put text in quotes"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark)

    @override
    def construct_yaml_int(self, node: Any) -> int:
        self._require_short(node)
        return super().construct_yaml_int(node)

    @override
    def construct_yaml_float(self, node: Any) -> float:
        self._require_short(node)
        return super().construct_yaml_float(node)

    @override
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) are not taken; write the value out", event.start_mark
            )
        return super().compose_node(parent, index)

    @override
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "this is no mapping", node.start_mark)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is no text; put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice; remove one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


for _tag, _construct in (("int", _StrictLoader.construct_yaml_int), ("float", _StrictLoader.construct_yaml_float)):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)


def load_yaml(text: str, place: str) -> Any:
    """Parse YAML text; any mistake in it is one sentence with line and column."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        remedy = (
            "" if isinstance(error, yaml.constructor.ConstructorError) else "; mend that line, or put text in quotes"
        )
        raise ExperimentError(f"{place}: not valid YAML{where}: {error.problem}{remedy}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ExperimentError(f"{place}: not valid YAML: {str(error).splitlines()[0][:200]}.") from None
    except (AttributeError, LookupError, TypeError):  # what PyYAML raises for `!!bool maybe`, `!!int ""`
        raise ExperimentError(f"{place}: not valid YAML: a value does not fit its !!tag; leave the tag out.") from None


def _defaults(loc: Place) -> dict[str, Any]:
    """The keys that exist at a place, with what they are if left out."""
    sections: dict[str, type[BaseModel]] = {"metrics": metrics_model(), "tune": Tune}
    sections |= {name: metric.options for name, metric in registered().items()}
    names = [part for part in loc if isinstance(part, str) and part in sections]
    fields = (sections[names[-1]] if names else Experiment).model_fields
    return {
        name: ... if each.is_required() else each.get_default(call_default_factory=True)
        for name, each in fields.items()
    }
