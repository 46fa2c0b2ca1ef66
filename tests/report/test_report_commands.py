"""report, recommend and compare on the command line."""

import json
import re
import shlex
import shutil
import sys

import pytest

from ropewalk.cli import main
from ropewalk.export import ENGINES, names


@pytest.fixture
def ropewalk(monkeypatch, capsys):
    """Runs a command line; gives exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ropewalk", *map(str, words)])
        with pytest.raises(SystemExit) as done:
            main()
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return run


def test_report_prints_its_paths(real, tmp_path, ropewalk):
    run = shutil.copytree(real, tmp_path / "run")
    code, out, _ = ropewalk("report", run)
    assert code == 0
    assert out.splitlines()[0] == str(run / "report.html")
    assert all((run / line).exists() for line in out.splitlines())


def test_recommend_says_which_and_why(real, ropewalk):
    code, out, _ = ropewalk("recommend", real, "--length", 256)
    assert code == 0
    assert out.startswith("For 256 tokens, ")
    assert "Cost at short lengths" in out
    assert "What would change it" in out


def test_recommend_for_scripts(real, ropewalk):
    code, out, _ = ropewalk("recommend", real, "--length", 200, "--max-short-cost", 50, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["target"], found["judged_at"], found["max_short_cost_percent"]) == (200, 256, 50.0)
    assert {"label", "value", "short_cost", "against_none"} <= set(found["choice"])


def test_recommend_ends_with_the_command_of_an_engine(real, ropewalk):
    for engine in (*ENGINES, "hf"):
        code, out, _ = ropewalk("recommend", real, "--length", 256, "--target", engine)
        assert code == 0
        assert shlex.split(out.splitlines()[-1])[-4:] == ["--target", engine, "--length", "256"]
    code, out, err = ropewalk("recommend", real, "--length", 256, "--target", "ollama")
    assert (code, out) == (2, "")
    assert err == f"ropewalk: --target 'ollama': must be one of {', '.join(names())}; write one of these.\n"


def test_recommend_refuses_in_a_sentence(real, ropewalk):
    code, out, err = ropewalk("recommend", real, "--length", 4096)
    assert (code, out) == (2, "")
    assert err == (
        "ropewalk: length 4096: nothing was measured at or beyond it (the longest length is 256); run the experiment "
        "file with --lengths 192,256,4096 and a new --out.\n"
    )


def test_compare_a_run_with_itself(real, ropewalk):
    code, out, _ = ropewalk("compare", real, real)
    assert code == 0
    first, *rest = out.splitlines()
    assert first.startswith(
        "Of 41 cells in both, B is better in 0, worse in 0, equal in 41, and not told apart in 0 (p"
    )
    assert rest[:2] == ["Provenance: nothing recorded differs.", "Documents in both: 3"]
    assert "identical" in out
    code, out, _ = ropewalk("compare", real, real, "--json")
    found = json.loads(out)
    assert {cell["b_against_a"]["value"] for cell in found["cells"]} == {0.0, 1.0}


def test_the_page_shows_the_numbers_of_results_json(real, tmp_path, ropewalk):
    """Cell by cell; the page holds six significant digits."""
    run = shutil.copytree(real, tmp_path / "run")
    printed = json.loads(ropewalk("results", run, "--json")[1])
    ropewalk("report", run)
    html = (run / "report.html").read_text()
    table = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])["table"]
    names = [column["name"] for column in table["columns"]]
    shown = [dict(zip([*names, "method"], row, strict=True)) for row in table["rows"]]
    assert len(shown) == len(printed) > 30
    for cell, row in zip(shown, printed, strict=True):
        assert (cell["method"], cell["length"], cell["metric"]) == (row["method"], row["length"], row["metric"])
        assert (cell["n"], cell["rotation"]) == (row["n"], row["fingerprint"])
        assert cell["status"] == row["status"] + (f": {row['reason']}" if row["reason"] else "")
        for one, other in (("value", "value"), ("low", "ci_low"), ("high", "ci_high")):
            assert cell[one] == (None if row[other] is None else pytest.approx(row[other], rel=6e-6))


def test_the_tables_of_the_markdown_show_the_numbers_of_results_json(real, tmp_path, ropewalk):
    run = shutil.copytree(real, tmp_path / "run")
    printed = json.loads(ropewalk("results", run, "--json")[1])
    ropewalk("report", run)
    text = (run / "report.md").read_text()
    for row in printed:
        if row["value"] is not None:
            digits = f"{100 * row['value']:.0f} %" if row["metric"] == "passkey" else f"{row['value']:.4g}"
            ends = (
                ""
                if row["ci_low"] is None or row["metric"] == "passkey"
                else f" \\[{row['ci_low']:.4g}, {row['ci_high']:.4g}\\]"
            )
            assert f"| {digits}{ends}" in text, row


def test_compare_needs_two_runs(real, tmp_path, ropewalk):
    code, _, err = ropewalk("compare", real, tmp_path)
    assert code == 2
    assert "holds no run" in err
