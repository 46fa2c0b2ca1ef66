"""What an exported model directory takes along: known files of the model, and nothing outside that a link names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk.errors import ExportError
from ropewalk.export.directory import _fill, _rename
from ropewalk.export.request import Export

NOTHING = Export(engine="hf", fidelity="exact", config={}, command=(), notes=())


@pytest.fixture
def model(tmp_path) -> Path:
    source = tmp_path / "hub" / "snapshots" / "abc"
    source.mkdir(parents=True)
    (source / "config.json").write_text("{}", encoding="utf-8")
    (source / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "id_rsa").write_bytes(b"private")
    (tmp_path / "out").mkdir()
    return source


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "model.safetensors", "config.json", "evil.py"])
def test_a_link_out_of_the_model_is_refused(model, tmp_path, name):
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(tmp_path / "id_rsa")
    with pytest.raises(ExportError, match="outside the model, and might not be meant for whoever gets the copy"):
        _fill(model, tmp_path / "out", NOTHING)
    assert not any(path.read_bytes() == b"private" for path in (tmp_path / "out").iterdir())


def test_links_into_the_blobs_of_a_cache_are_the_model(model, tmp_path):
    (tmp_path / "hub" / "blobs").mkdir()
    (tmp_path / "hub" / "blobs" / "0123").write_bytes(b"{}")
    (model / "tokenizer.json").symlink_to("../../blobs/0123")
    _fill(model, tmp_path / "out", NOTHING)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == b"{}"
    assert not (tmp_path / "out" / "tokenizer.json").is_symlink()


def test_files_of_no_model_stay_behind(model, tmp_path):
    for name in ("credentials.json", "notes.txt", "pytorch_model.bin"):
        (model / name).write_bytes(b"private")
    _fill(model, tmp_path / "out", NOTHING)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"}


def test_a_configuration_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Its scratch file had a name that could be known."""
    import os

    from ropewalk.export.directory import write_text

    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / f".keys.json-{os.getpid()}").symlink_to(precious)
    write_text("{}", tmp_path / "keys.json", force=False)
    assert precious.read_text() == "precious"
    assert (tmp_path / "keys.json").read_text() == "{}"


def test_an_old_directory_comes_back_where_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "model", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "config.json").write_text(folder.name)
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self == new:
            raise OSError("no room")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="no room"):
        _rename(new, old)
    assert (old / "config.json").read_text() == "model"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "new"]
