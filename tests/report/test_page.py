import dataclasses
import json
import re

import pytest
from studies import study

from ropewalk.report import provenance, ranking, tables
from ropewalk.report.content import content
from ropewalk.report.markdown import fence, markdown, render
from ropewalk.report.page import compact, interval, page
from ropewalk.report.recommend import judged_block
from ropewalk.report.tables import Table
from ropewalk.stats.best import best_set

CSP = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
ORDER = [
    "answer", "ratio", "tail", "retrieval", "pareto", "ranking", "sensitivity", "wavelengths", "table",
    "duplicates", "failures", "provenance",
]  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return content(study())


@pytest.fixture(scope="module")
def html(made):
    return page(made)


def test_policy_comes_first_and_word_for_word(html):
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    assert policy is not None
    assert policy[1] == CSP
    assert policy.start() < html.index("<script")


def test_nothing_is_fetched(html):
    body = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert not re.search(r"""(src|href|action|poster)\s*=\s*["']?(?!#|data:)[^"'>\s]""", body)
    assert "url(" not in body
    assert "@import" not in body


def test_sections_in_the_order_of_a_reader(html):
    assert re.findall(r'<section id="([a-z]+)"', html) == ORDER
    first = html.index("data-chart=")
    assert html.index('class="headline"') < html.index('<div id="position">') < first < html.index('class="facts"')
    assert html[first:].startswith('data-chart="position"'), "loss by position leads"


def test_three_findings_are_said_and_the_rest_is_folded(made, html):
    said, folded = html[html.index("Before you trust it") :].split("</section>")[0].split("<details>")
    assert said.count("<li>") == min(3, sum(f.severity != "note" for f in made.findings))
    assert said.count("<li>") + folded.count("<li>") == len(made.findings)
    assert f"<summary>{folded.count('<li>')} more</summary>" in folded


def test_a_command_for_every_engine_without_a_script():
    found = content(study(), targets=["one", "other"])
    shown = page(found)
    assert {name: command.split("--target ")[1].split()[0] for name, command in found.commands.items()} == {
        "one": "one",
        "other": "other",
    }
    assert len(re.findall(r'<input type="radio" name="engine"', shown)) == 2
    assert shown.count(" checked>") == 1
    assert ".tabs input:nth-of-type(2):checked ~ .code:nth-of-type(2)" in shown


def test_size_of_the_grid_of_172(html):
    assert len(html.encode()) < 6_000_000
    assert html.count("window.vegaEmbed=") == 1


def test_every_row_is_in_the_full_table(made, html):
    table = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])["table"]
    rows = made.study.run.rows
    assert len(table["rows"]) == len(rows)
    for shown, row in zip(table["rows"], rows, strict=True):
        assert [shown[0], shown[-1], *shown[1:3]] == [row.label, row.method, row.length, row.metric]
        assert shown[3] == pytest.approx(row.value, rel=1e-5)


def test_the_same_run_makes_the_same_page(html):
    assert page(content(study())) == html


def test_markdown_carries_the_same_sections(made, html):
    text = markdown(made, ["report.html", "figures/ratio.png"])
    for section in made.sections:
        assert f"## {section.title}" in text
        for figure in section.figures:
            if figure.spec is not None and not figure.small:
                assert f"(figures/{figure.name}.png)" in text
    for row in made.study.run.rows:
        if row.metric == "perplexity":
            assert tables.cell(made.study.run.columns[row.metric], row).replace("[", "\\[").replace("]", "\\]") in text
    assert "ropewalk run experiment.yaml --out again" in text
    assert "- `figures/ratio.png`" in text


def test_ranking_agrees_with_the_statistics(made):
    run = made.study.run
    block = judged_block(run, 8192)
    found = {row[0]: row for row in ranking.by_method(run, block).rows}
    assert set(found) == set(run.configurations)
    for method, row in found.items():
        own = block.only(run.configurations[method])
        assert row[1] == own.labels[int(own.losses_C.argmin())]
    best = next(row for row in ranking.best_per_length(run).rows if row[:2] == ("8,192", "tail perplexity"))
    members = best_set(block).members
    assert best[2] == members[0]
    assert best[4] == f"{len(members) - 1} of {len(block.labels) - 1}"


def test_passkeys_by_depth_add_up(made):
    study_ = made.study
    table = tables.depths(study_, ["none"], 5)
    for _, length, *cells in table.rows:
        found, asked = (sum(int(c.split("/")[i]) for c in cells) for i in (0, 1))
        row = study_.run.row("none", "passkey", int(length.replace(",", "")))
        assert asked == 20
        assert found / asked == row.value


def test_depth_one_falls_into_the_last_part():
    assert [tables.depth_bin(d, 5) for d in (0.0, 0.19, 0.2, 0.99, 1.0)] == [0, 0, 1, 4, 4]


def test_code_blocks_cannot_be_closed_from_inside():
    assert fence("a ``` b").startswith("````\n")


def test_tables_keep_their_columns():
    text = render(Table(columns=("a|b", "n"), rows=(("x\ny", "1"),), numeric=frozenset({"n"})))
    assert text.splitlines() == ["| a\\|b | n |", "| --- | ---: |", "| x y | 1 |"]


def test_interval_in_brackets_is_set_apart_and_escaped():
    assert interval("12.3 [11, 14] (8 documents)") == (
        '<span class="whole">12.3</span> <span class="ends">[11, 14]</span> (8 documents)'
    )
    assert "<b>" not in interval("<b> [<b>, 1]")
    assert interval("<b>") == "&lt;b&gt;"


def test_compact_rounds_and_has_no_infinities():
    assert compact({"a": [1.23456789, float("nan"), float("inf"), 7, "x", None, True]}) == {
        "a": [1.23457, None, None, 7, "x", None, True]
    }


def test_what_a_fast_path_left_out_is_said(made):
    run = made.study.run
    assert dict(provenance.table(run).rows).get("left out", "") == ""
    lacking = dataclasses.replace(run, meta={**run.meta, "left_out": ["sharing: a state", "the head: too far off"]})
    assert dict(provenance.table(lacking).rows)["left out"] == "sharing: a state; the head: too far off"
