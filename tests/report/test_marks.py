import math

import pytest
from studies import study

from ropewalk.report import marks
from ropewalk.report.provenance import reproduce
from ropewalk.report.study import known as known_columns
from ropewalk.report.wording import apart, change, measure, number, probability
from ropewalk.stats.intervals import Interval

COLUMNS = known_columns()


@pytest.mark.parametrize(
    ("low", "high"), [(0.999, 1.001), (0.9, 1.5), (0.05, 1.02), (1.0, 300.0), (1e-6, 1e8), (1.0, 1.0)]
)
def test_axes_of_changes_hold_their_values_with_ticks_apart(low, high):
    scale, axis = marks.change_axis([low, high])
    ends, ticks = scale.to_dict()["domain"], axis.to_dict()["values"]
    assert ends[0] < math.log(low) <= math.log(high) < ends[1]
    assert 0 in ticks
    assert ticks == sorted(set(ticks))
    assert 1 <= len(ticks) <= 11
    assert all(ends[0] <= tick <= ends[1] for tick in ticks)


def test_far_ends_of_intervals_do_not_squeeze_the_values():
    near, _ = marks.change_axis([0.9, 1.1], [0.85, 1.2])
    far, _ = marks.change_axis([0.9, 1.1], [0.85, 1.2, 1e6, None])
    assert near.to_dict()["domain"] == far.to_dict()["domain"]


@pytest.mark.parametrize(("low", "high"), [(23.0, 115.0), (9.9, 10.3), (1.0, 1e8), (0.2, 7.0), (20.0, 22.0)])
def test_logarithmic_axes_show_round_numbers_of_which_each_is_labelled(low, high):
    scale, axis = marks.log_axis([low, high])
    ends, ticks = scale.to_dict()["domain"], axis.to_dict()["values"]
    assert ends[0] < low < high < ends[1]
    assert 4 <= len(ticks) <= 11
    assert all(ends[0] <= tick <= ends[1] and tick == float(f"{tick:.3g}") for tick in ticks)


def test_legends_are_taken_out_of_specs_but_not_out_of_points():
    spec = {"encoding": {"color": {"legend": {"values": []}}}, "datasets": {"points": [{"legend": 1}]}}
    assert marks.without_legends(spec) == {
        "encoding": {"color": {"legend": None}},
        "datasets": {"points": [{"legend": 1}]},
    }


def test_numbers_read_as_people_write_them():
    assert [number(x) for x in (12.34567, None, math.nan, math.inf, 123456789.0)] == [
        "12.35", "–", "–", "infinite", "1.23e+08",
    ]  # fmt: skip
    assert measure(COLUMNS["tail"], Interval(value=12.345, low=11.0, high=13.0, n=8)) == "12.35 [11, 13]"
    assert measure(COLUMNS["passkey"], Interval(value=0.95, low=0.76, high=0.99, n=20)) == "95 % [76 %, 99 %]"
    assert measure(COLUMNS["tail"], Interval(value=2.0, low=None, high=None, n=1)) == "2"
    assert change(Interval(value=0.97, low=0.96, high=0.98, n=8)) == "-3.0 % [-4.0 %, -2.0 %]"
    assert change(Interval(value=1.0, low=1.0, high=1.0, n=8)) == "identical"
    assert change(Interval(value=math.inf, low=None, high=None, n=8)) == "infinitely worse"
    assert change(Interval(value=0.5, low=None, high=None, n=1)) == "-50.0 %"
    assert apart(COLUMNS["passkey"], Interval(value=-0.1, low=-0.3, high=0.1, n=20)) == "-10 [-30, +10] points"
    assert apart(COLUMNS["bits_per_byte"], Interval(value=0.01, low=None, high=None, n=1)) == "+0.01"
    assert [probability(p) for p in (None, 0.0004, 0.04)] == ["–", "< 0.001", "0.040"]


def test_the_experiment_cannot_end_its_own_here_document():
    run = study({"yarn": {"factor": 2}}, (1024,)).run
    run.meta["experiment"]["model"] = "END\nrm -rf ~\nEND"
    script = reproduce(run)
    first, *body = script.splitlines()
    word = first.rsplit("'", 2)[1]
    assert body.count(word) == 1
