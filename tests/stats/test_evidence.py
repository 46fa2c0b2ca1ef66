"""Every number in a finding's sentence is in its evidence: taken out of the sentence, it must be derived from there."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from handmade_runs import WINDOW, documents, run_of

from ropewalk.stats.findings import Finding, findings, fragile, grid, planning, quality, retrieval

FAR = 4 * WINDOW
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?")


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def printed(x: float) -> set[str]:
    """How a sentence may print a number of its evidence: as it is, in per cent, or as a change."""
    forms = (x, 100 * x, 100 * (x - 1), x / 1e9)
    texts = {f"{y:{style}}" for y in forms for style in (",.0f", ".0f", ".1f", "+.1f", ".4g", ".3g", ".2g", "g")}
    return texts | {text.lstrip("+") for text in texts}


def unexplained(finding: Finding) -> list[str]:
    found = list(leaves(dict(finding.evidence)))
    names = [x for x in found if isinstance(x, str)]
    left = finding.sentence
    for name in sorted(names, key=len, reverse=True):
        left = left.replace(name, " ") if len(name) > 1 and not name.isdecimal() else left
    known = {text for x in found if isinstance(x, int | float) for text in printed(x)}
    known |= {text for x in names if x.isdecimal() for text in printed(int(x))}
    left = re.sub(r"and \d+ more", "", left)  # of a list that the evidence holds whole
    return [number for number in NUMBER.findall(left.rstrip(".")) if number.rstrip(",") not in known]


TAIL = {("none", FAR): documents(1, 1.0), ("yarn", FAR): documents(2), ("truncate", FAR): documents(3)}
MANY = {(f"yarn {c}", FAR): documents(c, noise=0.05) for c in range(12)}
RUNS = {
    "inside": run_of(tail={("none", WINDOW): documents(1), ("yarn", WINDOW): documents(2, 0.001)}),
    "clear": run_of(tail=TAIL),
    "tied": run_of(tail=MANY | {("none", FAR): documents(50), ("truncate", FAR): documents(51, 0.5)}),
    "few": run_of(tail={key: values[:4] for key, values in (TAIL | MANY).items()}),
    "one": run_of(tail={key: values[:1] for key, values in TAIL.items()}),
    "worse": run_of(tail=TAIL | {("truncate", FAR): documents(3, -0.5)}),
    "memorised": run_of(tail=TAIL, model={"parameters": 1_235_814_400}),
    "same": run_of(
        tail=TAIL | {("linear", FAR): documents(2)}, fingerprints={("yarn", FAR): "f", ("linear", FAR): "f"}
    ),
    "failed": run_of(tail=TAIL, failed={("tail", FAR, "yarn"): ("error", "boom 17")}),
    "infinite": run_of(tail=TAIL | {("linear", FAR): [float("inf")] * 8}),
    "keys": run_of(longppl={("none", FAR): documents(1)}, failed={("longppl", FAR, "none"): ("ok", "ends at 2000")}),
    "few keys": run_of(
        longppl={("none", FAR): documents(1)}, failed={("longppl", FAR, "none"): ("too_few_key_tokens", "6 of 30")}
    ),
    "passkey": run_of(
        passkey={("none", WINDOW): [1] * 7 + [0] * 10, ("yarn", WINDOW): [1] * 17}, model={"chat_template": True}
    ),
    "still": run_of(
        tail=TAIL,
        geometry={
            "rotary_dim": 128,
            "rope_parameters": {"rope_type": "proportional", "partial_rotary_factor": 0.25},
        },
    ),
    "ranks": run_of(tail={("none", FAR): [2.0] * 12, ("yarn", FAR): [1.9 + 0.001 * i for i in range(11)] + [4.0]}),
    "trials": run_of(passkey={(f"yarn {c}", FAR): [1] * 10 for c in range(43)}),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_number_of_a_sentence_is_in_its_evidence(name: str) -> None:
    found = findings(RUNS[name])
    assert found
    assert {f.kind: unexplained(f) for f in found} == {f.kind: [] for f in found}


def test_these_runs_show_every_kind_of_finding() -> None:
    sources = "".join(inspect.getsource(module) for module in (fragile, grid, planning, quality, retrieval))
    kinds = set(re.findall(r'kind="(\w+)"', sources))
    assert kinds == {f.kind for run in RUNS.values() for f in findings(run)}


def keys() -> list[str]:
    """Each kind of finding with every key of its evidence, in this module's runs."""
    found = {f"{f.kind}: {path}" for run in RUNS.values() for f in findings(run) for path in _paths(f.evidence)}
    return sorted(found)


def _paths(value: Any, before: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and all(re.fullmatch(r"[a-z_]+", str(key)) for key in value):
        for key, item in value.items():
            yield from _paths(item, f"{before}.{key}" if before else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        yield from _paths(value[0], f"{before}[]")
    else:
        yield before


def test_scripts_find_evidence_by_its_names() -> None:
    """`python tests/stats/test_evidence.py` writes the names again."""
    assert keys() == (Path(__file__).parent / "golden_evidence.txt").read_text(encoding="utf-8").splitlines()


def test_a_number_from_nowhere_is_noticed() -> None:
    evidence = {"length": 8192, "label": "yarn 4"}
    finding = Finding(kind="x", sentence="At 8,192, yarn 4 is 3.1 % better.", evidence=evidence, severity="note")
    assert unexplained(finding) == ["3.1"]


if __name__ == "__main__":
    (Path(__file__).parent / "golden_evidence.txt").write_text("\n".join(keys()) + "\n", encoding="utf-8")
