"""Tasks that ask for what stands far back: the shapes of RULER's 13 (arXiv:2404.06654), made of built-in books, our own
words and invented facts. A new task is one file beside this one and one line of TASKS."""

from ropewalk.tasks.counting import COMMON_WORDS, FREQUENT_WORDS
from ropewalk.tasks.draft import Draft, Task, depths
from ropewalk.tasks.layout import Laid, Layout
from ropewalk.tasks.multikey import CODES, FOUR, NEEDLES
from ropewalk.tasks.questions import QUESTION, QUESTION_TWO_HOPS
from ropewalk.tasks.several import MULTIQUERY, MULTIVALUE
from ropewalk.tasks.single import BOOK, NOISE, SHUFFLED
from ropewalk.tasks.tracking import TRACKING

__all__ = ["TASKS", "Draft", "Laid", "Layout", "Task", "depths"]

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(NOISE, BOOK, SHUFFLED),
        *(FOUR, NEEDLES, CODES),
        *(MULTIVALUE, MULTIQUERY),
        TRACKING,
        *(COMMON_WORDS, FREQUENT_WORDS),
        *(QUESTION, QUESTION_TWO_HOPS),
    )
}
