"""Near and far attention in a report: distances that are told, classes of methods, and their price in time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert
from studies import GEOMETRY, frames, study

from ropewalk.errors import StoreError
from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.run_data import RunData
from ropewalk.methods import find, make_params, resolve
from ropewalk.report import paces, points
from ropewalk.report.classes import class_of
from ropewalk.report.content import content
from ropewalk.report.markdown import markdown
from ropewalk.report.printing import recommendation_lines
from ropewalk.report.recommend import recommend
from ropewalk.report.study import Study, of, read
from ropewalk.report.theme import picture_config
from ropewalk.report.write import drawings
from ropewalk.rope import Rotation
from ropewalk.scheme import Branch, Scheme

L = 8192
W, SINKS = 512, 4
METHODS: dict[str, dict[str, Any]] = {
    "rerope": {"neighbor_window": W},
    "leaky_rerope": {"neighbor_window": W, "k": 8},
    "streaming": {"neighbor_window": W, "sinks": SINKS},
    "yarn": {"factor": 4},
}
TOLD = {
    "rerope": lambda i, j: min(i - j, W),
    "leaky_rerope": lambda i, j: i - j if i - j < W else W + (i - j - W) / 8,
    "streaming": lambda i, j: i - j if i - j < W else min(i, W + SINKS - 1) - j,
}


def scheme(method: str, raw: dict[str, Any], length: int = L) -> Scheme:
    return resolve(GEOMETRY, method, make_params(method, raw), length).scheme


@pytest.fixture(scope="module")
def near_far() -> Study:
    made = {name: scheme(name, raw) for name, raw in METHODS.items()}
    branches = {each.fingerprint: each.branches for each in made.values() if each.branches}
    return dataclasses.replace(study(METHODS, (2048, L), metrics={"perplexity": {}}), branches=branches)


@pytest.fixture(scope="module")
def leading(near_far: Study) -> dict[str, str]:
    return dict(content(near_far).leading)


def test_a_line_is_what_the_last_token_is_told(near_far: Study, leading: dict[str, str]) -> None:
    found = points.told(near_far, leading, L)
    assert {point["method"] for point in found} == set(TOLD)
    for point in found:
        assert point["told"] == TOLD[point["method"]](L - 1, L - 1 - point["meant"])
    for method, far in {"rerope": (W, L - 1), "leaky_rerope": (W, L - 1), "streaming": (L - SINKS, L - 1)}.items():
        ends = [(p["branch"], p["meant"]) for p in found if p["method"] == method]
        assert [("1 of 2", 0), ("1 of 2", W - 1), *(("2 of 2", end) for end in far)] == sorted(ends), method


def test_a_saw_keeps_its_teeth() -> None:
    saw = np.array([3.0, 2, 1, 3, 2, 1])
    assert points._bends(saw).tolist() == [0, 2, 3, 5]
    many = points._bends(np.arange(1000.0) % 2)
    assert len(many) == points.MOST_BENDS
    assert (many[0], many[-1]) == (0, 999)


@pytest.mark.parametrize("method", TOLD)
def test_a_map_is_what_papers_draw(near_far: Study, leading: dict[str, str], method: str) -> None:
    found = points.map_of(near_far, leading[method], L)
    for point in found:
        assert point["told"] == TOLD[method](point["query"], point["key"])
        assert point["meant"] == point["query"] - point["key"] >= 0
    places = {point["query"] for point in found}
    assert len(places) == points.MAP
    seen = points.MAP * (points.MAP + 1) // 2
    assert len(found) == seen if method != "streaming" else len(found) < seen


def test_pictures_are_drawn_beside_the_wavelengths(near_far: Study) -> None:
    made = content(near_far)
    order = [section.anchor for section in made.sections]
    assert order.index("maps") == order.index("wavelengths") + 1
    specs = drawings(made)
    for name, least in {"distances": 10, "maps": 3 * 200}.items():
        drawn = vl_convert.vegalite_to_svg(specs[name], config=picture_config(made.styles))
        assert drawn.count("<path") > least
    assert "told: " in vl_convert.vegalite_to_svg(specs["maps"], config=picture_config(made.styles))
    plain = content(study({"yarn": {"factor": 4}}, (2048, L)))
    assert not {"distances", "maps"} & drawings(plain).keys()


CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("as it ships", {}),
    "yarn": ("rotation", {"factor": 4}),
    "linear": ("temperature", {"factor": 1, "temperature": "logn"}),
    "abf": ("rotation", {"rope_theta": 1e6, "temperature": 1.1}),
    "self_extend": ("attention", {}),
    "jet_long": ("attention", {}),
    "bifocal": ("attention", {"far": {"yarn": {"factor": 4}}}),
    "searched": (
        "tuned",
        {"file": {"schema": 1, "rope_theta": 1e4, "lambda": [2.0] * 32, "attention_factor": 1.0}},
    ),
    "truncate": ("context", {}),
}


@pytest.mark.parametrize("method", CLASSES)
def test_a_class_is_read_off_the_scheme(method: str) -> None:
    expected, raw = CLASSES[method]
    made, none = scheme(method, raw), scheme("none", {})
    plain = made.fed.plain()
    assert class_of(plain, none.plain(), find(method).params, cut=made.context is not None) == expected


def rows(at: float, count: int, worker: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """Passes of 100 tokens that a worker finished at some second."""
    moment = f"2026-01-01T00:00:{at:06.3f}+00:00"
    one = {"fingerprint": "plain", "start": 0, "stop": 100, "status": "ok", "worker": worker, "finished_at": moment}
    return [one | changes for _ in range(count)]


def test_a_batch_took_the_time_since_the_one_before() -> None:
    passes = [
        *rows(1, 4),  # the first: since when is not known
        *rows(3, 4),  # two seconds
        *rows(5, 2, fingerprint="far"),  # two seconds
        *rows(9, 1, fingerprint="far"),  # one second, after answers
        *rows(10, 1, status="out_of_memory", fingerprint="far"),
        *rows(11, 1, fingerprint="far", finished_at="2026-01-01T00:00:11+00:00"),  # to the second
        *rows(12, 1, fingerprint="far", stop=50),  # since then it is not known either
        *rows(14, 4, worker=2),  # the first of another
    ]
    found = paces.batches(passes, [(1, "2026-01-01T00:00:08.000+00:00")])
    assert [(sorted(b.fingerprints), b.rows, b.length, b.seconds) for b in found] == [
        (["plain"], 4, 100, 2.0),
        (["far"], 2, 100, 2.0),
        (["far"], 1, 100, 1.0),
    ]


def batch(name: str, seconds: float, count: int = 4, length: int = 100) -> paces.Batch:
    return paces.Batch(fingerprints=frozenset({name}), length=length, rows=count, seconds=seconds)


def test_a_price_compares_batches_of_one_length_and_nearly_as_many_rows() -> None:
    plain = [batch("none", 1), batch("yarn", 2), batch("none", 4), batch("none", 1, 16), batch("none", 1, length=200)]
    own = [batch("far", seconds) for seconds in (8, 4, 2)]
    found = paces.price([*plain, *own], "far", {"none", "yarn"}, 100)
    assert found is not None
    assert (found.pace, found.ratio) == (100.0, 0.5)  # medians: 400 tokens in 4 s, and in 2 s
    assert len(found.plain) == 3
    few = paces.price([*plain, *own[:2]], "far", {"none", "yarn"}, 100)
    assert few is not None
    assert few.ratio is None
    assert paces.price([*plain, *own], "far", {"none", "yarn"}, 150) is None
    mixed = dataclasses.replace(batch("none", 1), fingerprints=frozenset({"none", "tuned"}))
    assert paces.price([mixed, *own], "far", {"none"}, 100) is None


@pytest.fixture(scope="module")
def run(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("near-far") / "run"
    methods = {
        "yarn": {"factor": 2},
        "self_extend": {"neighbor_window": 32, "group_size": 4},
        "bifocal": {"neighbor_window": 32, "far": {"linear": {"factor": 2}}},
    }
    asked = base_experiment | {"lengths": [64, 256], "methods": methods, "metrics": {"perplexity": {}}}
    sweep(ask(schema.parse(asked, "test")), out)
    return out


def test_a_run_tells_its_branches_classes_and_times(run: Path) -> None:
    found = read(run)
    at = {row.label: row.fingerprint for row in found.run.rows if row.length == 256}
    far = next(label for label in at if label.startswith("bifocal"))
    assert {found.classes[label] for label in at} == {"as it ships", "rotation", "attention", "context"}
    assert [branch.start for branch in found.branches[at[far]]] == [0, 32]
    none, yarn, turned = (np.array(found.rotations[at[label]][0]) for label in ("none", "yarn factor=2", far))
    np.testing.assert_allclose(turned, none / 2, rtol=1e-15)  # of the far branch
    assert not np.array_equal(yarn, turned)
    moments = {(row["fingerprint"], row["finished_at"]) for row in found.run.meta["passes"] if row["stop"] == 256}
    assert len(moments) < 3 * len({name for name, _ in moments}), "documents of a batch are finished at one time"
    assert {name for each in found.batches for name in each.fingerprints} >= {at[far]}
    assert all(0 < each.seconds < 60 for each in found.batches)
    assert {label for label in at if at[label] in found.only_rotate} == {"none", "yarn factor=2", "truncate"}
    told = content(found)
    assert [section.anchor for section in told.sections] == [
        *("position", "ratio", "tail", "retrieval", "pareto", "ranking", "sensitivity", "wavelengths", "maps"),
        *("classes", "table", "duplicates", "failures", "provenance"),
    ]
    said = markdown(told, [])
    assert "| attention | bifocal |" in said
    assert "## Classes of methods, and their price in time" in said


def test_damaged_branches_are_said_to_be_that(run: Path) -> None:
    data = RunData.read(run)
    schemes = {
        name: each | ({"branches": [{"start": 0}]} if "branches" in each else {}) for name, each in data.schemes.items()
    }
    with pytest.raises(StoreError, match="the branches of a scheme cannot be"):
        of(dataclasses.replace(data, schemes=schemes))


def test_a_branch_is_what_it_says_of_itself() -> None:
    own = Rotation(inv_freq=GEOMETRY.unscaled_inv_freq)
    for method in TOLD:
        for branch in scheme(method, METHODS[method]).branches:
            assert Branch.of(branch.plain(), own) == branch


def test_other_peoples_times_are_not_compared(run: Path) -> None:
    data = RunData.read(run)
    assert of(dataclasses.replace(data, meta={**data.meta, "reused": [{"passes": 1}]})).batches == ()


def test_rotations_alone_need_no_prices() -> None:
    made = content(frames({"yarn": {"factor": 4}}, (2048, L)).study(classes={"none": "as it ships"}))
    assert "classes" not in {section.anchor for section in made.sections}


def test_code_is_offered_with_its_warning_where_no_configuration_says_it(near_far: Study) -> None:
    answer = recommend(near_far.run, L)
    lines = list(recommendation_lines(answer, None))
    assert answer.choice.label != "none"
    assert "--with-code` brings code along that its reader must trust" in lines[-1]
