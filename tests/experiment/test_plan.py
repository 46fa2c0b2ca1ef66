"""The plan: which configurations, which cells are one measurement, and the fewest passes that serve them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ropewalk.errors import ExperimentError, MethodError
from ropewalk.experiment import plan, presets, schema, todo
from ropewalk.experiment.index import Index, Pass
from ropewalk.experiment.overview import lines, overview
from ropewalk.experiment.plan import Feed
from ropewalk.experiment.prepare import Asked
from ropewalk.experiment.todo import PassTask
from ropewalk.methods import make_params, resolve
from ropewalk.models import ModelSpec
from ropewalk.rope import RopeGeometry

GEOMETRY = RopeGeometry(rotary_dim=16, rope_theta=10000.0, max_position_embeddings=128)
LLAMA_3_2 = RopeGeometry(
    rotary_dim=64,
    rope_theta=500000.0,
    max_position_embeddings=131072,
    original_max_position_embeddings=8192,
    rope_parameters={
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
)
PERPLEXITY = ("perplexity", "tail", "bits_per_byte")


def experiment(methods, lengths=(64, 128, 256), metrics=None, **changes):
    raw = {"model": "m", "lengths": list(lengths), "methods": methods, "metrics": metrics or {"perplexity": {}}}
    return schema.parse(raw | changes, "x.yaml")


def make(methods, lengths=(64, 128, 256), metrics=None, geometry=GEOMETRY, documents=2):
    asked = experiment(methods, lengths, metrics)
    return plan.make(asked, geometry, documents, plan.configurations(asked.methods))


def labels(methods) -> list[str]:
    return [config.label for config in plan.configurations(methods)]


class TestConfigurations:
    def test_none_is_first_whether_asked_for_or_not(self):
        assert labels({"linear": {"factor": 2}}) == ["none", "linear factor=2"]
        assert labels({"linear": {"factor": 2}, "none": None}) == ["none", "linear factor=2"]

    def test_grids_in_written_order_last_name_fastest(self):
        assert labels({"yarn": {"factor": [4, 2], "beta_fast": [24, 48]}, "linear": {"factor": [3]}}) == [
            "none",
            "yarn factor=4 beta_fast=24",
            "yarn factor=4 beta_fast=48",
            "yarn factor=2 beta_fast=24",
            "yarn factor=2 beta_fast=48",
            "linear factor=3",
        ]

    def test_a_method_may_have_several_grids_and_counts_each_configuration_once(self):
        grids = [{"factor": 2}, {"factor": [2.0, 4], "beta_fast": [32]}]
        assert labels({"yarn": grids}) == ["none", "yarn factor=2", "yarn factor=4"]

    def test_labels_leave_defaults_out_and_tell_every_number(self):
        assert labels({"yarn": {"factor": ["auto", 1.5, 1 + 2**-40], "beta_fast": 32, "truncate": False}}) == [
            "none",
            "yarn factor=auto truncate=False",
            "yarn factor=1.5 truncate=False",
            f"yarn factor={1 + 2**-40!r} truncate=False",
        ]

    def test_lists_are_values_of_list_parameters(self):
        (_, one) = labels({"longrope": {"factor": 2, "long_factor": [1.0] * 7 + [2.5], "short_factor": [1.0] * 8}})
        assert one.startswith("longrope factor=2 long_factor=[1,1,1,1,1,1,1,2.5]")

    def test_a_grid_too_large_to_multiply_out_is_refused_at_once(self):
        axis = list(range(2, 1002))
        with pytest.raises(ExperimentError) as refusal:
            labels({"yarn": {"factor": axis, "beta_fast": axis, "beta_slow": [0.5] * 1000}})
        assert str(refusal.value) == (
            "methods.yarn: 1000 factor x 1000 beta_fast x 1000 beta_slow are 1000000000 configurations, more than "
            "100000; split the grid."
        )

    def test_more_cells_than_a_run_can_hold_are_refused(self):
        with pytest.raises(ExperimentError) as refusal:
            make({"linear": {"factor": list(range(1, 20_001))}}, lengths=(64, 128))
        assert str(refusal.value) == (
            "methods: 20001 configurations x 2 lengths x 3 metrics are 120006 cells, more than 100000; split the grid."
        )

    def test_parameters_that_do_not_fit_the_model_are_refused(self):
        with pytest.raises(MethodError, match=r"_factor has 5 numbers, but this model rotates 8 pairs"):
            make({"longrope": {"factor": 2, "long_factor": [1.0] * 5, "short_factor": [1.0] * 5}})


class TestCells:
    def test_one_per_configuration_length_and_metric_in_order(self):
        found = make({"linear": {"factor": 2}}, lengths=(64, 128), metrics={"perplexity": {}, "passkey": {"trials": 3}})
        expected = [
            (label, length, metric)
            for label in ("none", "linear factor=2")
            for length in (64, 128)
            for metric in (*PERPLEXITY, "passkey")
        ]
        assert [(cell.label, cell.length, cell.metric) for cell in found.cells] == expected

    def test_asked_and_resolved_parameters_are_kept_apart(self):
        found = make({"yarn": {"factor": "auto"}})
        kept = {cell.length: (dict(cell.asked), dict(cell.resolved)) for cell in found.cells if cell.method == "yarn"}
        assert kept == {
            64: ({"factor": "auto"}, {"factor": 1.0}),
            128: ({"factor": "auto"}, {"factor": 1.0}),
            256: ({"factor": "auto"}, {"factor": 2.0}),
        }

    def test_the_truncated_baseline_stands_at_every_length_beyond_the_window(self):
        found = [cell for cell in make({"linear": {"factor": 2}}, (128, 129, 256)).cells if cell.method == "truncate"]
        assert [(cell.length, cell.metric) for cell in found] == [(129, "tail"), (256, "tail")]
        shipped = resolve(GEOMETRY, "none", make_params("none", {}), 64).rotation.fingerprint
        assert {cell.fingerprint for cell in found} == {shipped}
        assert {reading.high - reading.start for cell in found for reading in cell.readings} == {64}

    def test_without_perplexity_there_is_no_baseline(self):
        assert {cell.metric for cell in make({"linear": {"factor": 2}}, metrics={"passkey": {}}).cells} == {"passkey"}


class TestPasses:
    def test_one_pass_serves_every_length_of_a_static_rotation(self):
        found = make({"linear": {"factor": [2, 4]}}, lengths=(64, 128))
        assert {feed.start for feed in found.feeds} == {0}
        assert list(found.feeds.values()) == [(64, 128)] * 3
        assert found.passes == 3 * 2
        assert found.tokens == 3 * 2 * 128

    def test_rotations_that_change_with_length_need_their_own(self):
        found = make({"dynamic_ntk": {"factor": 2}}, lengths=(64, 128, 192, 256))
        mine = {cell.fingerprint for cell in found.cells if cell.method == "dynamic_ntk"}
        ends = [stops for feed, stops in found.feeds.items() if feed.fingerprint in mine and feed.start == 0]
        assert sorted(ends) == [(64, 128, 192, 256), (192,), (256,)]

    def test_duplicates_are_one_measurement(self):
        found = make({"dynamic_ntk": {"factor": [2, 4]}, "linear": {"factor": 1}}, lengths=(64, 256))
        groups = found.duplicates()
        assert groups[0] == [
            "none @ 64 perplexity",
            "dynamic_ntk factor=2 @ 64 perplexity",
            "dynamic_ntk factor=4 @ 64 perplexity",
            "linear factor=1 @ 64 perplexity",
        ]
        assert sorted(map(len, groups), reverse=True) == [4, 4, 4, 2, 2, 2]
        assert len(found.schemes) == 3
        asked = Asked(
            experiment=experiment({"none": None}, (64, 256)),
            spec=ModelSpec.parse("m"),
            geometry=GEOMETRY,
            documents=(),
            plan=found,
        )
        seen = overview(asked, None)
        assert seen["cells"] == 4 * 2 * 3 + 1
        assert seen["measurements"] == 3 * 3 + 3 + 1
        assert seen["rotations"] == 3
        assert not seen["extends_nothing"]
        same = "one measurement at 64: none, dynamic_ntk factor=2, dynamic_ntk factor=4, linear factor=1"
        assert same in lines(seen)

    def test_a_grid_inside_the_window_says_that_it_extends_nothing(self):
        asked = experiment({"linear": {"factor": 2}}, (64, 128))
        made = plan.make(asked, GEOMETRY, 2, plan.configurations(asked.methods))
        seen = overview(
            Asked(experiment=asked, spec=ModelSpec.parse("m"), geometry=GEOMETRY, documents=(), plan=made), None
        )
        assert seen["extends_nothing"]
        said = "every length lies inside the window, so this grid extends nothing; add lengths beyond 128."
        assert said in lines(seen)

    def test_passkeys_once_per_rotation_and_length(self):
        found = make(
            {"dynamic_ntk": {"factor": [2, 4]}}, lengths=(64, 256), metrics={"passkey": {"trials": 7}}, documents=5
        )
        assert len(found.prompts) == 1 + 3  # all are `none` at 64
        assert found.passes == 4 * 7
        assert found.tokens == 7 * (64 + 3 * 256)
        assert found.feeds == {}

    def test_strides_share_the_first_window(self):
        found = make({"linear": {"factor": 2}}, lengths=(64, 128), metrics={"perplexity": {"stride": 32}})
        starts = sorted((feed.start, ends) for feed, ends in found.feeds.items() if feed.fingerprint == _none())
        assert starts == [(0, (64, 128)), (32, (96,)), (64, (128,))]
        assert all(feed.bos == (feed.start > 0) for feed in found.feeds)


def _none():
    return resolve(GEOMETRY, "none", make_params("none", {}), 64).rotation.fingerprint


class TestPending:
    """Which pass comes next, given what is stored."""

    FEED = Feed(fingerprint="f", start=0, bos=False)

    def next_stops(self, stored):
        laid = dataclasses.replace(make({"none": None}), feeds={self.FEED: (64, 128, 256)}, documents=1)
        passes = {stop: Pass(status=status, reason=None, file=None, sha256=None) for stop, status in stored.items()}
        return [task.stop for task in todo.passes(laid, Index(passes={(self.FEED, 0): passes}))]

    @pytest.mark.parametrize(
        ("stored", "expected"),
        [
            ({}, [256]),
            ({256: "ok"}, []),
            ({256: "out_of_memory"}, [128]),
            ({256: "error"}, [128]),
            ({256: "out_of_memory", 128: "error"}, [64]),
            ({256: "out_of_memory", 128: "ok"}, []),
            ({256: "out_of_memory", 128: "out_of_memory", 64: "out_of_memory"}, []),
            ({128: "ok"}, [256]),  # a resumed run, its failures forgotten
            ({64: "ok", 256: "out_of_memory"}, [128]),
        ],
    )
    def test_the_longest_that_may_still_work(self, stored, expected):
        assert self.next_stops(stored) == expected

    def test_every_feed_on_every_document(self):
        found = make({"linear": {"factor": 2}}, lengths=(64, 128), documents=3)
        tasks = todo.passes(found, Index())
        assert len(tasks) == found.passes == 6
        assert sum(task.tokens for task in tasks) == found.tokens
        assert PassTask(feed=next(iter(found.feeds)), document=2, stop=128) in tasks


@pytest.fixture(scope="module")
def asked():
    return schema.parse(schema.load_yaml(presets.text("grid-172"), "preset"), "preset")


@pytest.fixture(scope="module")
def configs(asked):
    return plan.configurations(asked.methods)


class TestGrid172:
    """The predecessor's grid, as docs/methods.md counts it."""

    def laid(self, asked, configs, geometry):
        return plan.make(asked, dataclasses.replace(geometry, window_override=asked.window), 8, configs)

    def test_43_configurations_and_none(self, asked, configs):
        counts = {}
        for config in configs:
            counts[config.method] = counts.get(config.method, 0) + 1
        assert counts == {
            "none": 1,
            "linear": 4,
            "ntk_by_parts": 9,
            "yarn": 12,
            "longrope": 3,
            "dynamic_ntk": 3,
            "llama3": 12,
        }
        assert asked.lengths == [2048, 4096, 8192, 16384]

    def test_32_distinct_rotations_and_none_on_llama_3_2(self, asked, configs):
        found = self.laid(asked, configs, LLAMA_3_2)
        by_method = {}
        for cell in found.cells:
            by_method.setdefault(cell.method, set()).add(cell.fingerprint)
        assert len(found.schemes) == 33
        assert len(set.union(*(by_method[method] for method in by_method if method != "none"))) == 32
        assert len(by_method["none"]) == 1
        (plain,) = by_method["dynamic_ntk"]
        assert by_method["ntk_by_parts"] == {plain}
        assert plain not in by_method["none"]  # the checkpoint ships a scaling
        assert np.array_equal(found.schemes[plain].rotation.inv_freq, LLAMA_3_2.unscaled_inv_freq)
        for fingerprint in by_method["longrope"]:
            assert np.array_equal(found.schemes[fingerprint].rotation.inv_freq, LLAMA_3_2.unscaled_inv_freq)
            assert found.schemes[fingerprint].rotation.attention_factor > 1
        assert not any(cell.method == "truncate" for cell in found.cells)
        assert len(found.cells) == 44 * 4 * 5

    def test_without_shipped_scaling_none_is_one_of_the_32(self, asked, configs):
        plain = dataclasses.replace(LLAMA_3_2, rope_parameters={"rope_type": "default"})
        assert len(self.laid(asked, configs, plain).schemes) == 32

    def test_beyond_the_window_the_same_grid_extends(self, asked):
        beyond = schema.parse(schema.load_yaml(presets.text("grid-172-beyond"), "preset"), "preset")
        assert beyond.methods == asked.methods
        assert beyond.window is None
        assert max(beyond.lengths) > 8192


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_an_experiment(name):
    raw = schema.load_yaml(presets.text(name), name)
    if "models" in raw:
        raw = {key: value for key, value in raw.items() if key not in ("models", "where_installed")} | {
            "model": "strand"
        }
    asked = schema.parse(raw, name)
    assert len(plan.configurations(asked.methods)) > 1


def test_a_preset_that_does_not_exist():
    with pytest.raises(ExperimentError) as refusal:
        presets.text("grid-127")
    assert str(refusal.value).startswith("preset:grid-127: there is no such preset; did you mean preset:grid-172")
    with pytest.raises(ExperimentError, match="there is no such preset; there are: demo, grid-172"):
        presets.text("xyz")
