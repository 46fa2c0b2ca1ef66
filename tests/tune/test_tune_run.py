"""A whole tuning of a tiny model: split, judged by documents that it never saw, resumed, refused."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tune_experiments import experiment

from ropewalk.errors import ExperimentError, ModelError, StoreError
from ropewalk.files import write_whole
from ropewalk.methods import make_params, resolve
from ropewalk.methods.tuned_file import read
from ropewalk.model_spec import ModelSpec
from ropewalk.models import read_geometry
from ropewalk.tuning import descent, draws, named, parameters
from ropewalk.tuning import state as states
from ropewalk.tuning.asked import Request, Way
from ropewalk.tuning.bench import Bench, windows
from ropewalk.tuning.lines import lines, promise
from ropewalk.tuning.objective import Goal, Score
from ropewalk.tuning.result import Tuned, chosen, short_cost
from ropewalk.tuning.run import Found, tune
from ropewalk.tuning.state import State

MOMENTS = (".exp_avg", ".exp_avg_sq")
REQUEST = Request(length=256, steps=3, repeats=2, seed=4, max_short_cost=1.0)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def found(asked: Any, out: Path) -> Found:
    return tune(asked, REQUEST, out)


def test_what_is_written_is_what_was_found(found: Found, out: Path) -> None:
    assert {p.name for p in out.iterdir()} >= {"winner.safetensors", "tune.json", "tune.md", "seed-4.safetensors"}
    again = read(found.file)
    assert again.gains == found.scheme.gains
    assert again.rotation == found.scheme.rotation
    assert json.loads((out / "tune.json").read_text())["winner"]["fingerprint"] == found.scheme.fingerprint


def test_sides_are_apart_and_the_judge_has_every_row(found: Found) -> None:
    split, rows = found.result["split"], [row["label"] for row in found.result["judge"]["rows"]]
    assert len(split["search"]) == len(split["judge"]) == 3
    assert not set(split["search"]) & set(split["judge"])
    assert rows[:4] == ["tuned", "tuned seed 4", "tuned seed 5", "truncate"]
    assert {"none", "yarn factor=1.5"} <= set(rows) or any(row.startswith("yarn") for row in rows)
    best = found.result["judge"]["best_named"]
    assert best == found.result["start"] or found.result["goal"]["retrieval"] > 0
    assert found.result["judge"]["against"]["truncate"]["beyond"]["n"] == 3


def test_what_was_judged_is_kept_and_not_measured_again(
    asked: Any, found: Found, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what is missing: one scheme's losses and another's answers."""
    first, second = (row["label"] for row in found.result["judge"]["rows"][1:3])
    prints = {each["label"]: each["fingerprint"] for each in found.result["seeds"]}
    (out / "judged" / f"{prints[first]}-1.safetensors").unlink()
    (out / "judged" / f"{prints[second]}-essay.json").unlink()
    measured: list[str] = []
    losses, answers = Bench.losses, Bench.answers

    def seen_losses(self: Bench, schemes: Any, document: int) -> Any:
        measured.extend(f"{each.fingerprint}-{document}" for each in schemes if 176 in self.trials)
        return losses(self, schemes, document)

    def seen_answers(self: Bench, schemes: Any) -> Any:
        measured.extend(each.fingerprint for each in schemes if 176 in self.trials)  # which the tuning set is not asked
        return answers(self, schemes)

    monkeypatch.setattr(Bench, "losses", seen_losses)
    monkeypatch.setattr(Bench, "answers", seen_answers)
    again = tune(asked, REQUEST, out)
    assert measured == [f"{prints[first]}-1", prints[second]]
    assert again.result["judge"] == found.result["judge"]
    damaged = out / "judged" / f"{prints[first]}-1.safetensors"
    damaged.write_bytes(whole := damaged.read_bytes()[:-3])
    with pytest.raises(StoreError, match=r"-1.safetensors: is damaged .* what it held is measured again"):
        tune(asked, REQUEST, out)
    assert damaged.read_bytes() == whole
    damaged.unlink()


def test_prompts_are_judged_in_filler_and_in_text(found: Found) -> None:
    kinds = found.result["judge"]["retrieval"]
    assert list(kinds) == ["filler", "essay"]
    for row in found.result["judge"]["rows"]:
        assert kinds["filler"]["rows"][row["label"]] == row["passkey"]
    text = "\n".join(lines(found.result))
    assert "essay 256" in text
    for kind, each in kinds.items():
        assert f"passkeys in {kind} against the named method that found most of them there" in text
        named = [label for label in each["rows"] if not label.startswith(("tuned", "truncate"))]
        for n, against in each["against_most"].items():
            assert each["rows"][against["label"]][n] == max(each["rows"][label][n] for label in named)
            assert against["value"] == each["rows"]["tuned"][n] - each["rows"][against["label"]][n]


def test_lines_say_the_verdict_the_promise_and_the_seeds(found: Found) -> None:
    text = "\n".join(lines(found.result))
    assert "against truncate" in text
    assert "max_short_cost 1 % is" in text
    assert "tuned seed 4: 3 steps from" in text
    assert "of 2 descents" in text


def test_every_descent_is_judged_as_if_it_were_the_only_one(found: Found) -> None:
    """By the numbers of its own row; the chosen one's are the winner's."""
    judge, rows = found.result["judge"], {row["label"]: row for row in found.result["judge"]["rows"]}
    assert list(judge["seeds"]) == ["tuned seed 4", "tuned seed 5"]
    for seed, against in judge["seeds"].items():
        assert list(against) == [judge["best_named"], "truncate", "none"]
        for label, each in against.items():
            assert each["beyond"]["value"] == pytest.approx(rows[seed]["beyond"] / rows[label]["beyond"])
            assert each["passkey"]["256"]["value"] == rows[seed]["passkey"]["256"] - rows[label]["passkey"]["256"]
    won = judge["seeds"][found.result["winner"]["label"]]
    assert won == {label: judge["against"][label] for label in won}
    (told,) = (line for line in lines(found.result) if "tuned seed 5: beyond the window" in line)
    beyond, inside = told.split("; against the unscaled model ")
    for label in (judge["best_named"], "truncate"):
        assert f"{100 * (judge['seeds']['tuned seed 5'][label]['beyond']['value'] - 1):+.1f} %" in beyond
        assert f"against {label}" in beyond
    assert "at 256" not in inside
    assert "at 176" in inside or "at 192" in inside


def test_the_same_command_goes_on_and_ends_alike(
    asked: Any, found: Found, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all steps and named methods in the directory nothing is measured again but the judge's documents."""

    def never(*args: Any) -> Any:
        raise AssertionError("done already")

    monkeypatch.setattr(descent, "descend", never)
    before = (out / named.FILE).stat().st_mtime_ns
    again = tune(asked, REQUEST, out)
    assert again.scheme.fingerprint == found.scheme.fingerprint
    assert again.result["judge"] == found.result["judge"]
    assert (out / named.FILE).stat().st_mtime_ns == before


def plain(result: Any) -> Any:
    """A result without the time that it took."""
    without = {name: value for name, value in result.items() if name not in ("winner", "seeds")}
    return without | {"seeds": [{**each, "wall_s": 0} for each in result["seeds"]]}


def test_killed_at_any_moment_it_goes_on_and_ends_alike(
    asked: Any, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the second file of the named methods, of the second seed's steps, and of the judgement is written."""
    for place, end in (("named", "named.json"), ("state", "seed-5.safetensors"), ("kept", "-filler.json")):
        written: list[str] = []

        def dying(out: Path, name: str, data: bytes, end: str = end, written: list[str] = written) -> None:
            if name.endswith(end):
                written.append(name)
                if len(written) == 2:
                    raise KeyboardInterrupt
            write_whole(out, name, data)

        with monkeypatch.context() as patch:
            patch.setattr(f"ropewalk.tuning.{place}.write_whole", dying)
            with pytest.raises(KeyboardInterrupt):
                tune(asked, REQUEST, tmp_path)
        assert not (tmp_path / "tune.json").exists()
    again = tune(asked, REQUEST, tmp_path)
    assert plain(again.result) == plain(found.result)
    assert again.file.read_bytes() == found.file.read_bytes()


def test_another_tuning_is_refused(asked: Any, found: Found, out: Path) -> None:
    with pytest.raises(StoreError, match=r"holds another tuning \(tune.steps is 3 there and 4 here\)"):
        tune(asked, Request(length=256, steps=4, repeats=2, seed=4, max_short_cost=1.0), out)
    named_file = (out / "seed-5.safetensors").read_bytes()
    (out / "seed-5.safetensors").write_bytes(named_file[:-9])
    with pytest.raises(StoreError, match=r"seed-5.safetensors: is damaged .* remove it, and this seed begins anew"):
        tune(asked, REQUEST, out)
    (out / "seed-5.safetensors").write_bytes(named_file)


def test_a_tuning_that_was_begun_with_another_recipe_is_refused(
    asked: Any, found: Found, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = parameters.RATES["gains"]
    with monkeypatch.context() as changed:
        changed.setattr(parameters, "RATES", dict(parameters.RATES) | {"gains": 0.005})
        with pytest.raises(StoreError, match=rf"another tuning \(recipe.rates.gains is {was} there and 0.005 here\)"):
            tune(asked, REQUEST, out)
    with monkeypatch.context() as changed:
        changed.setattr("ropewalk.tuning.asked.TURNS", 3.0)
        with pytest.raises(StoreError, match=r"another tuning \(recipe.turns is 2.0 there and 3.0 here\)"):
            tune(asked, REQUEST, out)
    monkeypatch.setattr("ropewalk.tuning.asked.VERSION", draws.VERSION + 1)
    said = rf"another tuning \(recipe.draws is {draws.VERSION} there and {draws.VERSION + 1} here\)"
    with pytest.raises(StoreError, match=said):
        tune(asked, REQUEST, out)


@pytest.mark.parametrize(
    ("request_", "changes", "said"),
    [
        ({"length": 190}, {}, r"--length 190 lies inside the trained window of 192"),
        ({"length": 256}, {"dtype": "float16"}, r"gradients vanish in float16; use dtype bfloat16 or float32"),
    ],
)
def test_bad_input_is_refused(
    asked: Any, request_: dict[str, Any], changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = Path(asked.model).parent
    with pytest.raises((ExperimentError, ModelError), match=said):
        tune(experiment(folder, **changes), Request(steps=1, **request_), tmp_path / "out")
    assert not (tmp_path / "out" / "identity.json").exists()


def test_a_changed_file_is_refused_and_nothing_is_lost(asked: Any, found: Found, out: Path) -> None:
    folder, before = Path(asked.model).parent, (out / "tune.json").read_bytes()
    for changes, said in (
        ({"tune": {"probes": 2}}, "probes is 1 there and 2 here"),
        ({"seed": 6}, "seed is 0 there and 6 here"),
        ({"tune": {"probes": 1, "max_short_cost": 5.0}}, None),  # the command's own bound goes before it
    ):
        changed = experiment(folder, **changes)
        if said is None:
            assert tune(changed, REQUEST, out).result["goal"] == found.result["goal"]
            continue
        with pytest.raises(StoreError, match=rf"{re.escape(f'{out}: holds another tuning ({said})')}; choose another"):
            tune(changed, REQUEST, out)
        assert (out / "tune.json").read_bytes() == before


def test_a_loss_that_is_no_number_is_said_with_what_was_kept(
    asked: Any, found: Found, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the third of three steps: two are kept and judged. In the first: nothing can be."""
    shutil.copyfile(out / "named.json", tmp_path / "named.json")
    shutil.copyfile(out / "identity.json", tmp_path / "identity.json")
    shutil.copytree(out / "judged", tmp_path / "judged")
    taken, real = [], descent.descend

    def broken(*args: Any) -> Any:
        taken.append(0)
        found = real(*args)
        return dataclasses.replace(found, beyond=math.nan) if len(taken) in wrong else found

    monkeypatch.setattr(descent, "descend", broken)
    wrong = {3}
    ended = tune(asked, REQUEST, tmp_path)
    assert [(each["steps"], each["of"]) for each in ended.result["seeds"]] == [(2, 3), (3, 3)]
    assert "had a loss of nan and a gradient of" in (tmp_path / "tune.md").read_text()
    assert ended.result["seeds"][1]["fingerprint"] == found.result["seeds"][1]["fingerprint"]
    (tmp_path / "seed-4.safetensors").unlink()
    wrong = {len(taken) + 1}
    with pytest.raises(ExperimentError, match=r"^tune: step 1 of 3 had a loss of nan .* use dtype float32 or bfloat16"):
        tune(asked, REQUEST, tmp_path)


FREE = {"192": {"value": 1.02, "low": 1.01, "high": 1.03, "n": 3, "p": 0.1}}


def test_the_promise_is_kept_broken_or_not_judged() -> None:
    """And whether intervals of the judge's documents show it."""
    tuning: Any = SimpleNamespace(scene=SimpleNamespace(window=200, goal=Goal(retrieval=0.0, max_short_cost=None)))
    paid: dict[str, Any] = {"192": {"value": 1.02, "low": 1.01, "high": 1.03, "n": 3, "p": 0.1}}
    judged: Any = SimpleNamespace(against=lambda label: {"perplexity": paid | {"256": paid["192"] | {"value": 9.0}}})

    def said(bound: float | None) -> str:
        tuning.scene.goal = Goal(retrieval=0.0, max_short_cost=bound)
        return promise({"short_cost": short_cost(tuning, judged)})

    assert said(0.05).endswith("at 192; max_short_cost 5 % is kept (established).")
    assert said(0.025).endswith("max_short_cost 2.5 % is kept (not established).")
    assert said(0.015).endswith("max_short_cost 1.5 % is broken (not established).")
    assert said(0.005).endswith("max_short_cost 0.5 % is broken (established).")
    paid["192"] |= {"low": None, "high": None}
    assert said(0.05).endswith("kept (not established).")
    assert said(0.005).endswith("broken (not established).")
    tuning.scene.window = 100
    assert said(0.05).endswith("not judged: give a length inside the window.")
    free = promise({"short_cost": {"bound": None, "kept": None, "established": None, "perplexity": FREE}})
    assert free == "inside the window, against the unscaled model: +2.0 % [+1.0 %, +3.0 %] at 192."


def test_of_several_seeds_one_within_the_bound_wins(found: Found) -> None:
    def seed(number: int, objective: float, excess: float) -> Tuned:
        scored = Score(objective=objective, long=objective, short_cost=0.0, retrieval=None, excess=excess)
        return Tuned(
            way=Way(near=None, seed=number), scheme=found.scheme, state=State(steps=1, tensors={}), score=scored
        )

    assert chosen([seed(0, 2.0, 0.1), seed(1, 3.0, 0.0), seed(2, 2.5, 0.0)]).way.seed == 2
    assert chosen([seed(0, 2.0, 0.1), seed(1, 1.0, 0.2)]).way.seed == 1
    bound = found.result["short_cost"]
    assert bound["bound"] == 0.01
    assert bound["kept"] == all(each["value"] <= 1.01 for each in bound["perplexity"].values())


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("hf_quantizer", object(), r"its weights are quantised, and gradients do not go through their kernels; tune"),
        ("places", {}, r"layer 0 makes its query in a way that takes no gains; tune the rotation alone"),
    ],
)
def test_models_that_cannot_be_tuned_are_refused(
    asked: Any, place: str, value: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "places":
        monkeypatch.setattr("ropewalk.tuning.asked.query_places", lambda model: value)
    else:
        monkeypatch.setattr(transformers.LlamaForCausalLM, place, value, raising=False)
    with pytest.raises(ModelError, match=said):
        tune(asked, REQUEST, tmp_path / "out")
    assert not (tmp_path / "out" / "identity.json").exists()


def test_a_scaled_softmax_is_refused(asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = sys.modules["ropewalk.models.load"]  # whose name is a function's in its package
    real = loading.geometry_of
    monkeypatch.setattr(loading, "geometry_of", lambda config: dataclasses.replace(real(config), softmax_mscale=True))
    with pytest.raises(
        ModelError, match=r"mscale_all_dim, through which tuning does not go; measure the named methods"
    ):
        tune(asked, REQUEST, tmp_path / "out")


def test_too_few_documents_are_refused(asked: Any, tmp_path: Path) -> None:
    folder = Path(asked.model).parent
    few = experiment(folder, documents={"files": [str(folder / "[0-2].txt")], "count": 3})
    with pytest.raises(ExperimentError, match=r"documents: 3 of at least 256 tokens cannot be split"):
        tune(few, Request(length=256, steps=1), tmp_path / "out")


def test_a_result_that_may_come_out_otherwise_says_so(asked: Any, found: Found, out: Path, tmp_path: Path) -> None:
    """In tune.json and tune.md; what a descent kept of it is not lost with the process that saw it."""
    assert [each["unordered"] for each in found.result["seeds"]] == ["", ""]
    assert "to the bit" not in "\n".join(lines(found.result))
    shutil.copytree(out, again := tmp_path / "again")
    size = len(found.scheme.rotation.inv_freq), found.scheme.gains
    assert size[1] is not None
    shapes = {"stretch": (size[0],), "ln_attention_factor": (), "gains": size[1].log.shape}
    like = {f"{name}{more}": torch.zeros(shape) for name, shape in shapes.items() for more in ("", *MOMENTS)}
    kept = states.read(again, "seed-5.safetensors", like)
    assert kept is not None
    states.write(again, "seed-5.safetensors", dataclasses.replace(kept, unordered="put_ has no kernel"))
    told = tune(asked, REQUEST, again).result
    assert [each["unordered"] for each in told["seeds"]] == ["", "put_ has no kernel"]
    assert json.loads((again / "tune.json").read_text())["seeds"][1]["unordered"] == "put_ has no kernel"
    said = "- tuned seed 5 may not come out the same to the bit again: put\\_ has no kernel.\n"
    assert said in (again / "tune.md").read_text()


def test_a_named_method_that_could_not_be_measured_is_said(asked: Any, found: Found, out: Path, tmp_path: Path) -> None:
    assert found.result["left_out"] == {}
    shutil.copytree(out, again := tmp_path / "again")
    geometry = read_geometry(ModelSpec(id=asked.model))
    scheme = resolve(geometry, "abf", make_params("abf", {"rope_theta": 1e4 * (256 / 192) ** 2}), 256).scheme
    named.keep(again, {scheme.fingerprint: "a single row of 256 tokens did not fit in memory"})
    (label,) = (left := tune(asked, REQUEST, again).result["left_out"])
    assert label.startswith("abf rope_theta=1777")
    assert left[label] == "a single row of 256 tokens did not fit in memory"
    assert f"is not judged: {left[label]}." in (again / "tune.md").read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        *({"steps": 0}, {"steps": 4, "budget_s": 3.0}, {"seed": -1}, {"what": "all"}, {"budget_s": 0.0}),
        {"repeats": 10**8},
        *({"budget_s": math.inf}, *({"max_short_cost": each} for each in (math.nan, math.inf, -100.0))),
    ],
)
def test_a_request_says_what_is_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ExperimentError, match=rf"tune: {next(iter(wrong))}="):
        Request(length=256, **wrong)


def test_windows_of_truncate_cover_every_token_once_with_half_a_context() -> None:
    found = windows(200, 64)
    assert np.concatenate([np.arange(r.low, r.high) for r in found]).tolist() == list(range(1, 200))
    assert all(r.high - r.start <= 64 for r in found)
    assert all(r.low - r.start >= 32 for r in found[1:])
    assert not found[0].bos
    assert all(r.bos == (r.start > 0) for r in found)
