"""How far work is, where somebody looks: a bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text
from typing_extensions import override

Report = Callable[[str, int, int], None]
"""Called with (what, tokens done, tokens in all)."""


class Speed(ProgressColumn):
    """Units a second over the last half minute."""

    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.unit = unit

    @override
    def render(self, task: Task) -> Text:
        """`12,300 tokens/s`; nothing while it is unknown."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.{0 if speed >= 10 else 1}f} {self.unit}/s" if speed else "")


@contextlib.contextmanager
def progress(err: Console, unit: str = "tokens") -> Iterator[Report]:
    """Live progress with time left on a terminal; a line per tenth elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=8),
        TextColumn("{task.percentage:3.0f} %"),
        *([] if unit == "seconds" else [Speed(unit)]),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("left"),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        last = -1

        def report(what: str, done: int, total: int) -> None:
            nonlocal last
            bar.update(task, description=what, completed=done, total=total or None)
            tenth = 10 * done // total if total else -1
            if err.is_terminal or tenth == last:
                return
            last = tenth  # a smaller one is that of what comes next
            if tenth >= 0:
                err.print(f"{what}: {done} of {total} {unit}", markup=False)

        yield report


@contextlib.contextmanager
def watched(own: Report | None) -> Iterator[Report | None]:
    """The caller's own report; without one a bar on a terminal, lines in a notebook, and nothing elsewhere."""
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    if own is not None or not (err.is_terminal or err.is_jupyter):
        yield own
        return
    force = False if err.is_jupyter else None  # a bar there needs widgets
    with progress(
        Console(stderr=True, highlight=False, soft_wrap=True, force_jupyter=force, force_terminal=force)
    ) as report:
        yield report
