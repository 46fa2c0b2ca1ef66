"""Documents for the tests of this folder, and texts that are hard on tokenizers."""

import hashlib

from hypothesis import settings
from hypothesis import strategies as st

from ropewalk.corpus import Document

unhurried = settings(deadline=None)  # a busy machine is no failure

# Characters that fall into several byte tokens, join, combine, or fill a whole word; and words the tokenizer knows.
PIECES = ["a", " key", " the", "é", "é", "🙂", "👩‍👩‍👧", "漢", "\n", "\u200d", "ff", "İ", "𝔘", " ", "\u0301"]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.characters(codec="utf-8", exclude_characters="\0")), min_size=1)
texts = texts.map("".join).filter(str.strip)


def document(text: str, id: str = "a") -> Document:
    return Document(
        id=id,
        title=id,
        kind="file",
        source=f"{id}.txt",
        licence="not known",
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        text=text,
    )
