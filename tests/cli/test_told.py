"""What a terminal does with sentences that are longer than its width."""

from __future__ import annotations

import sys

import pytest

from ropewalk import terminal

SENTENCE = "  By next-token loss alone yarn is best."
WHOLE = (
    "ropewalk init MODEL > experiment.yaml",
    "a row  of a table  12.5 [11.4, 13.6]",
    "Go on with `ropewalk run`.",
)


@pytest.mark.parametrize("line", WHOLE)
def test_what_is_copied_stays_whole(line, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal.tell(line)
    assert capsys.readouterr().out == f"{line}\n"


def test_sentences_break_between_words_in_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    terminal.tell(SENTENCE)
    assert capsys.readouterr().out == f"{SENTENCE}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal.tell(SENTENCE)
    assert capsys.readouterr().out == "  By next-token loss\n  alone yarn is\n  best.\n"
