"""A whole search on a real small model: what it promises, what it writes, what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ropewalk as rw
from ropewalk import methods
from ropewalk.corpus import builtin_documents
from ropewalk.errors import ExperimentError, StoreError
from ropewalk.export import Checkpoint, hf, request
from ropewalk.methods.rotation_file import Divisors
from ropewalk.rope import Rotation
from ropewalk.searching import named, record
from ropewalk.searching.asked import seconds
from ropewalk.searching.bench import Bench
from ropewalk.searching.lines import lines
from ropewalk.searching.run import Found


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("texts")
    for document in builtin_documents(5):
        (folder / f"{document.id}.txt").write_text(document.text[10_000:14_000], encoding="utf-8")
    return {
        "length": 512,
        "lengths": [128, 256],
        "methods": {"yarn": {"factor": 2}},
        "documents": {"files": [str(folder / "*.txt")], "count": 4},
        "metrics": {"perplexity": {}, "passkey": {"trials": 3}},
        "section": {"probes": 1, "knots": 5},
        "evaluations": 18,
        "seed": 5,
    }


def changed(arguments: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """The arguments with some replaced; `count` is that of the documents."""
    counted = {"documents": arguments["documents"] | {"count": change["count"]}} if "count" in change else {}
    return arguments | counted | {name: value for name, value in change.items() if name != "count"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def strand() -> rw.models.LoadedModel:
    return rw.load("strand", dtype="float32")


@pytest.fixture(scope="module")
def measured() -> list[bytes]:
    """Which documents were fed, in order, as bytes of their ids."""
    return []


@pytest.fixture(scope="module")
def found(out: Path, strand: Any, arguments: dict[str, Any], measured: list[bytes]) -> Found:
    with pytest.MonkeyPatch.context() as patch:
        real = Bench.losses

        def losses(self: Bench, rotations: Any, document: int) -> Any:
            measured.append(self.documents[document].tobytes())
            return real(self, rotations, document)

        patch.setattr(Bench, "losses", losses)
        return rw.search(strand, out=out, **arguments)


def test_it_ends_no_worse_than_any_named_method_on_its_own_objective(found: Found) -> None:
    objective = found.result["winner"]["objective"]
    assert objective <= min(each["objective"] for each in found.result["named"].values())
    assert set(found.result["named"]) == set(methods.METHODS) - {
        *("proportional", "searched", "tuned", "truncate", "cope", "ntk_fixed", "ntk_mixed", "resonance"),
        *("rerope", "leaky_rerope", "self_extend", "dca", "string", "jet_long", "bifocal", "streaming"),
    }
    assert found.result["evaluations"]["searched seed 5"] == 19  # whole generations


def test_judged_numbers_come_from_the_judges_documents_alone(found: Found, measured: list[bytes]) -> None:
    split = found.result["split"]
    assert not set(split["search"]) & set(split["judge"])
    assert len(split["search"]) == len(split["judge"]) == 2
    sides = dict.fromkeys(measured)
    assert len(sides) == 4
    assert measured[-2:] == list(sides)[2:]  # the judge's documents are fed last, and once
    assert all(measured.count(ids) == 1 for ids in list(sides)[2:])


def test_the_judge_is_a_sweep_of_the_same_documents(
    found: Found, strand: Any, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """The winner runs in a sweep as any method, by its file; numbers of both agree."""
    taken = ("documents", "metrics", "seed")
    run = rw.sweep(
        strand,
        methods={"searched": {"file": str(found.file)}},
        lengths=[128, 256, 512],
        out=tmp_path / "run",
        **{name: arguments[name] for name in taken},
    )
    frame = run.frame()
    label = next(each for each in frame.label if each.startswith("searched file="))
    assert (frame[frame.label == label].fingerprint == found.rotation.fingerprint).all()
    own = next(row for row in found.result["judge"]["rows"] if row["label"] == "searched")
    samples = run.samples()
    samples = samples[samples.label == label]
    for length in (128, 256, 512):
        here = samples[samples.length == length]
        judged = here[(here.metric == "perplexity") & here.unit.isin(found.result["split"]["judge"])]
        assert len(judged) == 2
        perplexity = math.exp(judged.numerator.sum() / judged.denominator.sum())
        assert own["perplexity"][str(length)] == pytest.approx(perplexity, rel=1e-5)  # float32, other batches
        assert own["passkey"][str(length)] == here[here.metric == "passkey"].numerator.mean()


def test_the_file_is_the_rotation_and_the_path_is_nothing(found: Found, strand: Any, tmp_path: Path) -> None:
    geometry = strand.geometry
    first = methods.make_params("searched", methods.inlined("searched", {"file": str(found.file)}))
    (tmp_path / "elsewhere.json").write_text(found.file.read_text(encoding="utf-8"), encoding="utf-8")
    elsewhere = methods.inlined("searched", {"file": str(tmp_path / "elsewhere.json")})
    assert methods.make_params("searched", elsewhere) == first
    assert methods.resolve(geometry, "searched", first, 512).rotation == found.rotation
    changed = json.loads(found.file.read_text(encoding="utf-8"))
    changed["lambda"][-1] *= 1.001
    assert methods.make_params("searched", {"file": changed}) != first


def test_it_exports_through_the_universal_form(found: Found, strand: Any) -> None:
    params = methods.inlined("searched", {"file": str(found.file)})
    asked = request(strand.geometry, "searched", params, 512, Checkpoint())
    rope = hf.configure(asked).config["rope_parameters"]
    assert rope["rope_type"] == "longrope"
    assert rope["short_factor"] == rope["long_factor"]
    np.testing.assert_allclose(strand.geometry.unscaled_inv_freq / rope["long_factor"], found.rotation.inv_freq)


def test_two_windows_are_longrope_with_a_switch(found: Found, strand: Any) -> None:
    params = methods.make_params("longrope", json.loads((found.directory / "two-window.json").read_text("utf-8")))
    inside, beyond = (methods.resolve(strand.geometry, "longrope", params, n).rotation for n in (256, 257))
    assert beyond == found.rotation
    assert inside.inv_freq.tobytes() == strand.geometry.unscaled_inv_freq.tobytes()
    assert inside.attention_factor == found.rotation.attention_factor
    assert methods.depends_on_length(strand.geometry, "longrope", params)


def test_what_is_written(found: Found) -> None:
    names = {path.name for path in found.directory.iterdir()}
    assert {"winner.json", "two-window.json", "search.json", "search.md", "search.html", "search.png"} <= names
    page = (found.directory / "search.html").read_text("utf-8")
    assert "vegaEmbed" in page
    assert 'src="http' not in page
    assert (found.directory / "search.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((found.directory / "search.json").read_text("utf-8")) == json.loads(json.dumps(found.result))
    text = "\n".join(lines(found.result))
    assert text.strip() == (found.directory / "search.md").read_text("utf-8").strip()
    for word in ("documents that the search never saw", "optimism", "exact McNemar", "racing spared", "judged on"):
        assert word in text


def test_the_same_command_again_measures_no_candidate_twice(
    found: Found, out: Path, strand: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError("a candidate was measured again")

    monkeypatch.setattr(Bench, "outcomes", never)
    again = rw.search(strand, out=out, **arguments)
    assert again.rotation == found.rotation
    assert again.result["winner"] == found.result["winner"]


CHANGED = {
    "search.knots is 5 there and 8 here": {"section": {"probes": 1}},
    "seed is 5 there and 6 here": {"seed": 6},
    "documents.count is 4 there and 5 here": {"count": 5},
    "goal.max_short_cost is None there and 0.05 here": {"max_short_cost": 5.0},
    "lengths is [128, 256, 512] there and [128, 256, 384, 512] here": {"length": 384, "lengths": [128, 256, 512]},
}


@pytest.mark.parametrize("difference", CHANGED)
def test_a_changed_file_is_refused_and_nothing_lost(
    found: Found, out: Path, strand: Any, arguments: dict[str, Any], difference: str
) -> None:
    before = (out / "search.json").read_bytes()
    with pytest.raises(StoreError) as caught:
        rw.search(strand, out=out, **changed(arguments, CHANGED[difference]))
    assert str(caught.value) == (
        f"{out}: holds another search ({difference}); choose another --out, it is never overwritten."
    )
    assert (out / "search.json").read_bytes() == before


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"length": 200}, "--length 200 lies inside the trained window of 256 tokens"),
    ({"count": 3}, "documents: 3 of at least 512 tokens cannot be split"),
    ({"metrics": {"perplexity": {}}, "section": {"weights": {"retrieval": 1.0}}}, "metrics names no passkey"),
    ({"section": {"weights": {"keys": 1.0}}}, "add longppl: {spans: builtin} to metrics"),
    ({"metrics": {"passkey": {"protocol": "yarn"}}}, "use protocol: exact"),
    ({"section": {"probe_lengths": [500]}}, "search.probe_lengths: 500 is none of the lengths from the window"),
    ({"section": {"knot": 3}}, "unknown key search.knot=3; did you mean knots?"),
    ({"section": {"family": "refine"}}, "needs `method` with family refine"),
    ({"section": {"family": "refine", "method": "none"}}, "search.method=none has no number to vary"),
    ({"evaluations": 0}, "evaluations=0 must be more than 0"),
]


@pytest.mark.parametrize(("change", "sentence"), IMPOSSIBLE, ids=[s[:30] for _, s in IMPOSSIBLE])
def test_what_cannot_be_searched(
    strand: Any, arguments: dict[str, Any], tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ExperimentError) as caught:
        rw.search(strand, out=tmp_path / "new", **changed(arguments, change))
    text = str(caught.value)
    assert sentence in text
    assert "\n" not in text
    assert text.endswith((".", "did you mean knots?"))


def test_bounds_that_nothing_meets_say_what_came_closest(
    strand: Any, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """And the candidates are kept: the same command with more evaluations goes on."""
    changes = {"max_short_cost": -50.0, "evaluations": 1, "metrics": {"perplexity": {}}}
    with pytest.raises(ExperimentError) as caught:
        rw.search(strand, out=tmp_path, **(arguments | changes))
    text = str(caught.value)
    assert text.startswith("no candidate of ")
    assert "meets max_short_cost -50 %; closest came " in text
    assert "a short cost of " in text
    with record.opened(tmp_path) as store:
        assert len(store.of("seed 5")) == 1
        assert len(store.of(named.STUDY)) > 20


def test_a_budget_is_a_number_with_a_unit() -> None:
    assert [seconds(text) for text in ("90s", "5m", "1h")] == [90.0, 300.0, 3600.0]
    for text in ("5", "m", "0m", "-1m", "5 m", "5d"):
        with pytest.raises(ExperimentError, match="must be a whole number with s, m or h"):
            seconds(text)


def test_divisors_give_the_rotation_back(strand: Any) -> None:
    rotation = Rotation(inv_freq=strand.geometry.unscaled_inv_freq / 3.0, attention_factor=1.25)
    params = methods.make_params("searched", {"file": Divisors.of(strand.geometry, rotation).plain()})
    assert methods.resolve(strand.geometry, "searched", params, 1).rotation == rotation
