"""The files of a report, from a real run."""

import os
import re
import shutil
from pathlib import Path

import pytest
import vl_convert
from studies import study

from ropewalk.errors import StoreError
from ropewalk.experiment.results import Run
from ropewalk.report import write
from ropewalk.report.content import content
from ropewalk.report.study import read
from ropewalk.report.theme import picture_config


@pytest.fixture
def run(real, tmp_path) -> Path:
    return Path(shutil.copytree(real, tmp_path / "run"))


def test_writes_page_text_and_pictures(run, texts):
    files = write.report(run)
    names = [str(path.relative_to(run)) for path in files]
    assert names[:2] == ["report.html", "report.md"]
    assert {"figures/ratio.png", "figures/tail.png", "figures/position.png", "figures/retrieval.png"} <= set(names)
    begins = {".png": b"\x89PNG", ".svg": b"<svg", ".pdf": b"%PDF"}
    assert all(path.read_bytes().startswith(begins[path.suffix]) for path in files[2:])
    assert {Path(name).stem for name in names[2:]} == {Path(name).stem for name in names if name.endswith(".pdf")}
    density = (run / "figures" / "ratio.png").read_bytes().partition(b"pHYs")[2]
    assert round(int.from_bytes(density[:4], "big") * 0.0254) == 200
    drawn = (run / "figures" / "position.svg").read_text()
    assert "3 documents, seed" in drawn
    assert "yarn factor=4" in drawn, "the legend names parameters"
    assert all(
        f"- `{name}`" in (run / "report.md").read_text() for name in names if not name.endswith((".svg", ".pdf"))
    )
    assert not list(run.rglob("*.tmp"))
    for text in texts.glob("*.txt"):
        assert text.read_text()[:60] not in (run / "report.html").read_text(), "no text of a document in the page"


def test_shows_what_the_store_holds(run):
    found = read(run)
    frame = Run.open(run).frame()
    assert len(found.run.rows) == len(frame)
    assert set(frame["fingerprint"]) <= set(found.rotations)
    assert len(found.trials) == len(Run.open(run).samples().query("metric == 'passkey'"))
    assert len(found.token_hashes) == len(found.key_hashes) == len(found.run.meta["documents"]) == 3
    assert found.missing.cells == 0


def test_every_picture_has_marks():
    made = content(study({"yarn": {"factor": [2, 3, 4]}, "linear": {"factor": [2, 3, 4]}}))
    drawings = write.drawings(made)
    of_attention = {"gains", "distances", "maps"}
    assert set(drawings) == {name for name in write.OURS if name not in of_attention and not name.startswith("groups")}
    for name, spec in drawings.items():
        svg = vl_convert.vegalite_to_svg(spec, config=picture_config(made.styles))
        groups = re.findall(r'<g class="mark-(?:symbol|rect) role-mark[^>]*>(.*?)</g>', svg, re.S)
        assert sum(group.count("<path") for group in groups) >= 4, name


def test_a_report_written_again_leaves_other_peoples_files(run):
    (run / "figures").mkdir()
    (run / "figures" / "mine.png").write_bytes(b"mine")
    (run / "figures" / "sensitivity.png").write_bytes(b"of an older report")
    made = content(study(["none"], (1024,)))
    write.save(made, run)
    assert (run / "figures" / "mine.png").exists()
    assert not (run / "figures" / "sensitivity.png").exists()


def test_a_crash_leaves_the_old_page_whole(run, monkeypatch):
    (run / "report.html").write_text("the old page")

    def crash(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(StoreError, match=r"the report cannot be written \(No space left on device\)"):
        write.save(content(study(["none"], (1024,))), run)
    assert (run / "report.html").read_text() == "the old page"
    assert not list(run.rglob("*.tmp"))


def test_no_run_no_report(tmp_path):
    with pytest.raises(StoreError, match="holds no run"):
        write.report(tmp_path)
