"""The sections of a report, in the order of the page; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ropewalk.experiment.held import Held
from ropewalk.report import by_group, figures, parameters, prices, provenance, ranking, tables
from ropewalk.report.figures import Figure
from ropewalk.report.listing import Listing, Section
from ropewalk.report.paces import LEAST
from ropewalk.report.palette import Style
from ropewalk.report.study import Study
from ropewalk.report.tables import Table
from ropewalk.stats.blocks import Block
from ropewalk.stats.column import Column

LEVELS = (
    "Values are of the first tokens of each document, which are unlike the rest of it; differences on the same tokens "
    "are sounder. Their 95 % intervals cover about 90 % where documents scatter with a long tail, and little more than "
    "half where one document in ten fails."
)
QUESTIONS = (
    "The page asks four questions, each with a chance of at most 5 % of any false answer: which configurations may be "
    "the best at the longest length; which at the other lengths; which beat dropping the context at any length; which "
    "steps of a parameter change something. The 5 % hold where documents differ without long tails or rare failures. "
    "What is called exploratory has no such bound."
)


def sections(study: Study, block: Block | None, leading: Mapping[str, str], drawn: dict[str, Style]) -> list[Section]:
    """Everything after the answer and the findings.

    Args:
        study: what was measured.
        block: outcomes at the longest length that has any.
        leading: each method's best configuration.
        drawn: how each method is drawn.
    """
    return [
        *_losses(study, block, leading, drawn),
        *([_retrieval(study, leading)] if study.run.retrieval or not study.run.grouped else []),
        *by_group.sections(study.run, leading, drawn),
        *_choice(study, block, leading, drawn),
        _wavelengths(study, block, leading, drawn),
        *_distances(figures.distances(study, leading, drawn, block)),
        *_gains(figures.gains(study, list(leading.values()), block)),
        *_classes(prices.table(study, block, leading)),
        *_cells(study),
    ]


def _losses(study: Study, block: Block | None, leading: Mapping[str, str], drawn: dict[str, Style]) -> list[Section]:
    """What is drawn of losses, by position and by length."""
    run = study.run
    return [
        Section(
            anchor="position",
            title="Loss by position",
            lead="Exploratory: mean loss along one pass over the longest length. A configuration that stays flat "
            "beyond the window can read there. Configurations whose rotation changes with length are shown as rotated "
            "for that length.",
            figures=(figures.positions(study, leading, drawn),),
        ),
        Section(
            anchor="ratio",
            title="Perplexity against the unscaled model",
            lead="Exploratory: each line is a configuration's perplexity divided by that of none on the same "
            "documents; below the dashed line is better. Strong lines: each method's best configuration"
            f"{_at(block)}, with its 95 % band, one by one and not corrected for their number. The axis is stretched "
            f"around “same”. {LEVELS}",
            figures=(figures.ratio(study, leading, drawn),),
            tables=_column_tables(study, [c for c in run.columns.values() if not c.at_length]),
        ),
        Section(
            anchor="tail",
            title="Is extending better than dropping the context?",
            lead="Tail perplexity (the last tokens of each document) against the unscaled model that is fed only the "
            "last half window. Below the line, reading more context pays; what is said of it above is corrected over "
            f"all configurations and lengths, the bands are not. {LEVELS}",
            figures=(figures.tail(study, leading, drawn),),
            tables=_column_tables(study, [run.tail] if run.tail else []),
        ),
    ]


def _retrieval(study: Study, leading: Mapping[str, str]) -> Section:
    labels = list(leading.values())
    items = study.run.retrieval.items if study.run.retrieval else "answers"
    by_depth = Listing(title="Found by depth", table=tables.depths(study, labels, figures.bins_of(study)))
    return Section(
        anchor="retrieval",
        title=f"{items[:1].upper() + items[1:]} by depth and length",
        lead=f"Share of {items} found, by where in the prompt it stood (0 % is the beginning). Exploratory: "
        "lengths share keys and beginnings, so one length does not confirm another." + _held(study.held, items),
        figures=figures.retrieval(study, labels),
        tables=(by_depth,) if study.trials else (),
    )


def _choice(study: Study, block: Block | None, leading: Mapping[str, str], drawn: dict[str, Style]) -> list[Section]:
    """What leads to the answer, and what each parameter has to do with it."""
    found = parameters.steps(study.run, block) if block else {}
    return [
        Section(
            anchor="pareto",
            title="Short lengths against long ones",
            lead="Exploratory: what each configuration costs inside the window, and what it gives at the longest "
            "length. Nothing measured beats the joined points in one without losing in the other.",
            figures=(figures.front(study, block, leading, drawn),),
        ),
        Section(
            anchor="ranking",
            title="Ranking",
            lead="One line per method. The best configuration is chosen on half of the documents and judged on the "
            "other half, both ways; optimism is how much too good it looks on those that chose it. A method is "
            f"worse if every one of its configurations left the best set. {QUESTIONS} "
            f"{ranking.effective_note(study.run)}",
            tables=_ranking_tables(study, block),
        ),
        Section(
            anchor="sensitivity",
            title="What each parameter does",
            lead="One parameter moved to its next value, everything else fixed, paired on the same documents"
            f"{_at(block)}. Left of the line is better; p is corrected over all steps of all methods, the intervals "
            "are not.",
            figures=(figures.effects(block, found, drawn),),
            tables=(Listing(title="Every step", table=parameters.table(block, found)),) if block and found else (),
        ),
    ]


def _wavelengths(study: Study, block: Block | None, leading: Mapping[str, str], drawn: dict[str, Style]) -> Section:
    return Section(
        anchor="wavelengths",
        title="What each rotation does to the dimensions",
        lead="Each point is a pair of dimensions. Pairs left of the window complete a turn in it and were seen "
        "whole in training; a pair at 1 is untouched, one at the factor is fully interpolated.",
        figures=(figures.stretch(study, leading, drawn, block),),
    )


def _distances(found: tuple[Figure, ...]) -> list[Section]:
    """None where nothing has branches."""
    lead = (
        "Near and far attention tells tokens other distances than they have; each of its branches covers a range of "
        "them. On the dashed line is the truth, above the window what training never showed. The maps are those that "
        "papers draw, a query down and a key across: blue is told to be near, orange at the window and beyond, blank "
        "is not seen."
    )
    title = "What near and far attention tells of distance"
    return [Section(anchor="maps", title=title, lead=lead, figures=found)] if found else []


def _classes(found: Table | None) -> list[Section]:
    """None where all only rotate."""
    lead = (
        "What each method changes, and its pace beside that of all that only rotate, in this run: tokens/s of whole "
        "batches of documents, storing included, from the times at which they were stored, medians; the first batch "
        "of a worker is left out, and rows of different rotations share batches. Only passes of one length are "
        f"compared, {LEAST} batches of each or more, and what else ran on the machine is not known: a coarse price, "
        "not a benchmark."
    )
    listing = Listing(title="", table=found, folded=False) if found else None
    title = "Classes of methods, and their price in time"
    return [Section(anchor="classes", title=title, lead=lead, tables=(listing,))] if listing else []


def _cells(study: Study) -> list[Section]:
    """What was measured, what was not, and with what."""
    run = study.run
    return [
        Section(anchor="table", title="Every number", lead=f"One row per configuration, length and metric. {LEVELS}"),
        Section(
            anchor="duplicates",
            title="Cells that are one measurement",
            lead="Equal rotations were measured once; their equal numbers confirm nothing.",
            tables=(Listing(title="", table=tables.duplicates(run), folded=False),),
        ),
        Section(
            anchor="failures",
            title="Cells without a value",
            lead=provenance.unfinished(study),
            tables=(Listing(title="", table=tables.failures(run), folded=False),),
        ),
        Section(
            anchor="provenance",
            title="Provenance",
            lead="What was measured, with what, and how to measure it again.",
            tables=(
                Listing(title="", table=provenance.table(run), folded=False),
                Listing(title="Documents", table=provenance.documents(run)),
            ),
            code=provenance.reproduce(run),
        ),
    ]


def _at(block: Block | None) -> str:
    return f" at {block.lengths[0]:,}" if block else ""


def _held(found: Sequence[Held], items: str) -> str:
    """What a cut prompt can hold, by length; empty where that is not known."""
    if not found:
        return ""
    said = ", ".join(f"{each.count} of {each.n} at {each.length:,}" for each in found)
    return f" Dropping the context would leave {said}: the {items} that stand in the last {found[0].kept} tokens."


def _gains(found: tuple[Figure, ...]) -> list[Section]:
    """None where nothing has gains."""
    lead = (
        "What the query of each layer and head is multiplied by, the mean over its pairs: orange sharpens attention, "
        "purple flattens it, white leaves it alone. Where near tokens are as trained, this is for far ones alone."
    )
    return [Section(anchor="gains", title="Gains of the query", lead=lead, figures=found)] if found else []


def _column_tables(study: Study, columns: Sequence[Column]) -> tuple[Listing, ...]:
    return tuple(Listing(title=tables.heading(each), table=tables.by_length(study.run, each)) for each in columns)


def _ranking_tables(study: Study, block: Block | None) -> tuple[Listing, ...]:
    run, found = study.run, list[Listing]()
    if block is not None:
        at = f"{block.lengths[0]:,}"
        found.append(Listing(title=f"By method, at {at}", table=ranking.by_method(run, block), folded=False))
        found.append(Listing(title=f"Top ten at {at}, exploratory", table=ranking.top(run, block), folded=False))
    found.append(
        Listing(
            title="Best per length, exploratory: each row is corrected for itself alone",
            table=ranking.best_per_length(run),
        )
    )
    agree = ranking.correlations(run)
    if agree.rows:
        found.append(Listing(title="Do the metrics agree? Rank correlations within a length, exploratory", table=agree))
    return tuple(found)
