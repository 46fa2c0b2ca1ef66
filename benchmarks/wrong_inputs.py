"""Every wrong input of tests/cli/test_hundred_mistakes.py with the sentence that refuses it, as a table to be judged by
reading: does it name the value, its place, and the way to mend it?

    python benchmarks/wrong_inputs.py > sentences.md
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cli"))

from test_hundred_mistakes import REMEDY, cases  # noqa: E402

from ropewalk.api import sweep  # noqa: E402
from ropewalk.cli import app, err  # noqa: E402
from ropewalk.terminal import run_app  # noqa: E402


def refused(arguments: tuple[object, ...]) -> tuple[int, str]:
    """The exit code of a command and what it says on stderr."""
    said = io.StringIO()
    sys.argv = ["ropewalk", *map(str, arguments)]
    err.file = said
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = run_app(app, err)
    return code, said.getvalue().removeprefix("ropewalk: ").rstrip("\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as made, contextlib.chdir(made):
        run, folder = Path(made) / "RUN", Path(made) / "files"
        folder.mkdir()
        documents = {"corpus": "builtin", "count": 2}
        sweep("strand", methods={"linear": {"factor": 2}}, lengths=[128, 256], documents=documents, out=run)
        print("| wrong | sentence | value | place | remedy | s |\n|---|---|---|---|---|---|")
        whole = 0
        every = list(cases(folder, run))
        for arguments, value, place in every:
            begun = time.perf_counter()
            code, said = refused(arguments)
            took_s = time.perf_counter() - begun
            shown = said.replace(f"{folder}/", "").replace(str(run), "RUN").replace(made, ".")
            judged = [code == 2 and bool(re.search(each, shown)) for each in (value, place, REMEDY)]
            whole += all(judged)
            asked = " ".join(map(str, arguments)).replace(f"{folder}/", "").replace(str(run), "RUN")
            if len(arguments) > 1 and isinstance(arguments[1], Path) and arguments[1].parent == folder:
                asked = arguments[1].read_text(encoding="utf-8").strip().replace("\n", "; ")
                asked = asked.replace("lengths:; - 64; - 128; ", "").replace("model: strand", "").strip("; ")
            row = [asked, shown, *("yes" if each else "NO" for each in judged), f"{took_s:.2f}"]
            print("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |")
        print(f"\n{whole} of {len(every)} have all three.")


if __name__ == "__main__":
    main()
