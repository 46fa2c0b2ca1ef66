"""lm-eval's tasks under any scheme: our scoring and decoding behind its model API (the extra `lm-eval`).

Losses are float32 log-sum-exps whatever the weights are; lm-eval's own model sums them in the weights' dtype unless it
is told otherwise, which in bfloat16 is off by 6e-3 nats per token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ropewalk.errors import ExperimentError, ModelError
from ropewalk.models import LoadedModel
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, Answers, Failure, Split, fast, score_shared, split
from ropewalk.scoring.budget import batch_tokens
from ropewalk.scoring.decoding import PromptRow, generate_shared
from ropewalk.tasks.lm_eval_items import ADDED, NEW_TOKENS, installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a document gives to a metric, `metric` as lm-eval calls it, filter included: over all documents numerators
    add up, and denominators. Metrics of whole sets, such as BLEU or F1 of labels, give nothing by document."""

    scheme: str
    task: str
    metric: str
    document: int
    numerator: float
    denominator: float = 1.0


def evaluate(
    loaded: LoadedModel, schemes: Mapping[str, Scheme], tasks: Sequence[Any], length: int, limit: int | None = None
) -> list[Result]:
    """lm-eval's per-document results of tasks under each scheme, so that differences pair by document.

    Args:
        loaded: the model.
        schemes: by label.
        tasks: names of lm-eval's tasks, or their configurations.
        length: tokens of the longest input; longer contexts lose their beginnings, as in lm-eval.
        limit: documents per task.

    Raises:
        ExperimentError: lm-eval is not installed, or knows no such task; or all metrics of one are of the whole set.
        ModelError: a document failed, so nothing could be compared.
    """
    lm_eval = installed("lm_eval")
    found = list[Result]()
    with fast(loaded.model, split(loaded.model), compiled=False) as parts:
        for label, scheme in schemes.items():
            model = engine(loaded, parts, scheme, length)
            try:
                out = lm_eval.simple_evaluate(
                    model, tasks=list(tasks), limit=limit, bootstrap_iters=0, log_samples=True
                )
            except (KeyError, ValueError) as error:
                raise ExperimentError(f"lm_eval: {error}; `lm-eval ls tasks` lists what there is.") from error
            for task, samples in out["samples"].items():
                of_sets = _of_whole_sets(out["configs"][task])
                own = [each for sample in samples for each in _results(label, task, sample, of_sets)]
                if samples and not own:
                    raise ExperimentError(
                        f"lm_eval: {task}: {', '.join(samples[0]['metrics'])} is a number of the whole set, in which "
                        "no document has a share, so nothing pairs; leave the task out."
                    )
                found += own
    return found


def _of_whole_sets(config: Mapping[str, Any]) -> frozenset[str]:
    """The metrics of a task that do not add up over documents."""
    registry = installed("lm_eval.api.registry")
    names = {each: name for name, each in registry.AGGREGATION_REGISTRY.items()}
    found = set[str]()
    for given in config.get("metric_list") or ():
        metric = given["metric"]
        if "aggregation" in given:
            aggregation = names.get(given["aggregation"], given["aggregation"])
        else:
            aggregation = names.get(registry.get_metric_aggregation(metric), "mean")
        if isinstance(metric, str) and aggregation not in ADDED:
            found.add(metric)
    return frozenset(found)


def _results(scheme: str, task: str, sample: Mapping[str, Any], of_sets: frozenset[str]) -> Iterator[Result]:
    """The numbers of one document under one filter: single ones, or sums with weights."""
    for name in sample["metrics"]:
        if name in of_sets:
            continue
        numbers = sample[name] if isinstance(sample[name], tuple) else (sample[name], 1.0)
        if len(numbers) == 2 and all(isinstance(number, int | float) for number in numbers):
            yield Result(
                scheme=scheme,
                task=task,
                metric=f"{name},{sample['filter']}",
                document=int(sample["doc_id"]),
                numerator=float(numbers[0]),
                denominator=float(numbers[1]),
            )


def engine(loaded: LoadedModel, parts: Split, scheme: Scheme, length: int) -> Any:
    """An lm-eval model that scores and generates under a scheme. Raises ExperimentError without lm-eval."""
    template, utilities = installed("lm_eval.api.model").TemplateLM, installed("lm_eval.utils")
    tokenizer, budget = loaded.tokenizer, batch_tokens(loaded.model, length)
    first: int = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id

    class Engine(template):
        """lm-eval's template cuts pairs into tokens; what is left is ours."""

        @property
        def eot_token_id(self) -> int:
            return tokenizer.eos_token_id

        @property
        def prefix_token_id(self) -> int:
            return first

        @property
        def max_length(self) -> int:
            return length

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            special = True if add_special_tokens is None else add_special_tokens
            return tokenizer(string, verbose=False, add_special_tokens=special)["input_ids"]

        def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            rows = [_row([*context, *said], len(said), scheme, length) for _, context, said in requests]
            return [_judged(row, outcome) for row, outcome in zip(rows, _all(loaded, parts, rows, budget), strict=True)]

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            sums = list[float]()
            for request in requests:
                tokens = self.tok_encode(request.args[0], add_special_tokens=False)
                windows = utilities.get_rolling_token_windows(
                    token_list=tokens, prefix_token=first, max_seq_len=length - 1, context_len=1
                )
                pairs = [("", *utilities.make_disjoint_window(window)) for window in windows]
                sums.append(sum(value for value, _ in self._loglikelihood_tokens(pairs)))
            return sums

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            rows = [_prompt(self.tok_encode(request.args[0]), request.args[1], scheme, length) for request in requests]
            found: dict[int, Any] = {}
            for batch in generate_shared(loaded.model, parts, rows, budget, tokenizer.decode):
                found.update(batch)
            return [_said(tokenizer, row, found[place]) for place, row in enumerate(rows)]

    return Engine()


def _row(ids: list[int], answer_tokens: int, scheme: Scheme, length: int) -> AnswerRow:
    """A context with its continuation; of one that is too long the beginning is cut, as lm-eval does."""
    return AnswerRow(
        ids=np.array(ids[-length - 1 :], dtype=np.int32), scheme=scheme, answer_tokens=min(answer_tokens, length)
    )


def _prompt(ids: list[int], asked: Mapping[str, Any], scheme: Scheme, length: int) -> PromptRow:
    """Raises ExperimentError for sampling, which is not greedy."""
    if asked.get("do_sample") and asked.get("temperature", 1.0) > 0:
        raise ExperimentError(f"lm_eval: a task asks for sampling ({asked!r:.80}); only greedy decoding is measured.")
    new = int(asked.get("max_gen_toks", asked.get("max_new_tokens", NEW_TOKENS)))
    until = asked.get("until") or []
    stop = tuple([until] if isinstance(until, str) else until)
    if new >= length:
        raise ExperimentError(f"lm_eval: {new} new tokens leave no room in a length of {length}; raise it.")
    return PromptRow(ids=np.array(ids[-(length - new) :], dtype=np.int32), scheme=scheme, new_tokens=new, stop=stop)


def _all(loaded: LoadedModel, parts: Split, rows: Sequence[AnswerRow], budget: int) -> list[Any]:
    found: dict[int, Any] = {}
    for batch in score_shared(loaded.model, parts, rows, budget):
        found.update(batch)
    return [found[place] for place in range(len(rows))]


def _judged(row: AnswerRow, outcome: Any) -> tuple[float, bool]:
    """Summed log-likelihood of a continuation, and whether greedy decoding gives it."""
    if isinstance(outcome, Failure):
        raise ModelError(f"lm_eval: a document failed ({outcome.reason}); lower the length or the limit.")
    assert isinstance(outcome, Answers)
    greedy = bool((outcome.predicted[:-1] == row.ids[-row.answer_tokens :]).all())
    return -float(outcome.nll.astype(np.float64).sum()), greedy


def _said(tokenizer: Any, row: PromptRow, new: Any) -> str:
    """What was generated, up to the first stop string."""
    if isinstance(new, Failure):
        raise ModelError(f"lm_eval: a document failed ({new.reason}); lower the length or the limit.")
    said = str(tokenizer.decode(new.tolist(), skip_special_tokens=True))
    return said[: min((said.find(stop) for stop in row.stop if stop in said), default=len(said))]
