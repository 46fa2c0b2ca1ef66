"""Names of others in search.md, and links in place of a search's database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ropewalk.errors import StoreError
from ropewalk.searching import study
from ropewalk.searching.lines import escaped

HOSTILE = "<img src=x>|a|*b*[c](javascript:x)`d`\x1b[2J\n# e\u202e~~f~~ _g_ &amp;"


def test_a_hostile_name_is_shown_literally():
    shown = "&lt;img src=x&gt;\\|a\\|\\*b\\*\\[c\\](javascript:x)\\`d\\`"
    shown += "\\\\x1b\\[2J\\\\n\\# e\\\\u202e\\~\\~f\\~\\~ \\_g\\_ &amp;amp;"
    assert escaped({HOSTILE: [HOSTILE, (HOSTILE, 1.5, None)]}) == {shown: [shown, [shown, 1.5, None]]}
    assert escaped("yarn factor=4 beta_fast=32") == "yarn factor=4 beta_fast=32"


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_no_link_stands_for_a_search_database(tmp_path: Path, end: str, make):
    precious = tmp_path / "precious"
    precious.write_bytes(b"")
    (tmp_path / "search").mkdir()
    make(precious, tmp_path / "search" / f"search.sqlite{end}")
    with pytest.raises(StoreError, match="is a link or no file, which no search has"):
        study.storage(tmp_path / "search")
    assert precious.read_bytes() == b""
