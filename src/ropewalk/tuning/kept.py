"""A bench that keeps what it measured, scheme by scheme: a judgement that was killed goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ropewalk.errors import StoreError
from ropewalk.experiment.prepare import Progress
from ropewalk.files import read_inside, write_whole
from ropewalk.scheme import Scheme
from ropewalk.scoring import Answers, Failure
from ropewalk.tuning.bench import Bench, Found, Losses

FOLDER = "judged"
MOST = 2**30
"""Bytes of a file that is read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptBench:
    """What `bench` measures, from the files of `out` where they have it already; failures are not kept.

    Attributes:
        prompts: a name for the prompts, as one directory may hold answers to several sets of them.
        told: of documents and of schemes done.
    """

    bench: Bench
    out: Path
    prompts: str
    told: Progress

    def losses(self, schemes: Sequence[Scheme], document: int) -> list[Losses]:
        """As the bench's."""
        names = [f"{FOLDER}/{scheme.fingerprint}-{document}.safetensors" for scheme in schemes]
        found: dict[int, Any] = {
            i: kept for i, name in enumerate(names) if (kept := self._losses(name, document)) is not None
        }
        left = [i for i in range(len(names)) if i not in found]
        for i, outcome in zip(left, self._measured(schemes, left, document), strict=True):
            found[i] = outcome
            if isinstance(outcome, np.ndarray):
                write_whole(self.out, names[i], safetensors.numpy.save({"nll": np.ascontiguousarray(outcome)}))
        self.told("judging documents", document + 1, len(self.bench.documents))
        return [found[i] for i in range(len(names))]

    def _measured(self, schemes: Sequence[Scheme], left: Sequence[int], document: int) -> list[Losses]:
        return self.bench.losses([schemes[i] for i in left], document) if left else []

    def answers(self, schemes: Sequence[Scheme]) -> list[Found]:
        """As the bench's, one scheme after the other."""
        found = []
        for done, scheme in enumerate(schemes):
            name = f"{FOLDER}/{scheme.fingerprint}-{self.prompts}.json"
            known = self._answers(name)
            if known is None:
                known = self.bench.answers([scheme])[0]
                if not any(isinstance(each, Failure) for each in known.values()):
                    write_whole(self.out, name, json.dumps([_plain(*each) for each in known.items()]).encode())
            found.append(known)
            if self.bench.trials:
                self.told(f"judging {self.prompts}", done + 1, len(schemes))
        return found

    def _losses(self, name: str, document: int) -> NDArray[np.float32] | None:
        """Losses `[T - 1]`, if they are kept."""
        raw = self._read(name)
        try:
            if raw is None:
                return None
            nll = safetensors.numpy.load(raw)["nll"]
            if (nll.dtype, nll.shape) != (np.float32, (len(self.bench.documents[document]) - 1,)):
                raise ValueError("its losses are of another document")
            return nll
        except (ValueError, KeyError, safetensors.SafetensorError) as error:
            raise self._damaged(name, error) from None

    def _answers(self, name: str) -> Found | None:
        raw = self._read(name)
        try:
            if raw is None:
                return None
            found = dict(_answer(*each) for each in json.loads(raw))
            if {each: (known.nll.shape, known.predicted.shape) for each, known in found.items()} != self._shapes():
                raise ValueError("its answers are of other prompts")
            return dict(found)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise self._damaged(name, error) from None

    def _shapes(self) -> dict[tuple[int, int], Any]:
        """Of every answer's losses and predicted tokens."""
        trials = ((n, i, each.answer_tokens) for n, of in self.bench.trials.items() for i, each in enumerate(of))
        return {(n, i): ((tokens,), (tokens + 1,)) for n, i, tokens in trials}

    def _read(self, name: str) -> bytes | None:
        try:
            return read_inside(self.out, name, MOST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._damaged(name, error) from None

    def _damaged(self, name: str, error: Exception) -> StoreError:
        return StoreError(
            f"{self.out / name}: is damaged ({str(error)[:100]}); remove it, and what it held is measured again."
        )


def _plain(place: tuple[int, int], outcome: Answers | Failure) -> list[Any]:
    assert isinstance(outcome, Answers)
    return [*place, outcome.nll.tolist(), outcome.predicted.tolist()]


def _answer(length: int, trial: int, nll: list[float], predicted: list[int]) -> tuple[tuple[int, int], Answers]:
    return (length, trial), Answers(nll=np.array(nll, dtype=np.float32), predicted=np.array(predicted, dtype=np.int32))
