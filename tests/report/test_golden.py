"""Every picture and table of a report against numbers that were worked out by hand; golden.py says how."""

import golden_tables
import pytest


@pytest.fixture(scope="module")
def shown():
    return golden_tables.shown()


def test_points_of_every_chart(shown):
    golden_tables.check_points(shown[0])


def test_what_every_chart_draws_of_its_points(shown):
    golden_tables.check_charts(shown[0])


def test_tables_of_the_page(shown):
    golden_tables.check_tables(shown[1])


def test_tables_of_the_markdown(shown):
    golden_tables.check_tables(shown[2])


def test_the_full_table(shown):
    golden_tables.check_every_number(shown[0])


@pytest.mark.parametrize("sentence", golden_tables.ANSWER)
def test_answer_and_findings_in_words(shown, sentence):
    assert sentence in shown[3]
