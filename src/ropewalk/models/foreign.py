"""What other libraries print and raise while a model is loaded."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants
from huggingface_hub import errors as hub
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from safetensors import SafetensorError
from transformers.utils import logging

from ropewalk.errors import ModelError, is_own, nearest
from ropewalk.models import builtin

_THEIRS = (
    *(ImportError, MemoryError, OSError, RuntimeError),
    *(SafetensorError, hub.EntryNotFoundError, hub.StrictDataclassError),
)
"""What ropewalk's own code does not raise by mistake."""
_ANYBODYS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' own bars and advice while loading; the Hub's download bars stay."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    hub_bars = not are_progress_bars_disabled()
    logging.disable_progress_bar()  # both kinds
    if hub_bars:
        enable_progress_bars()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what peft and transformers tell each other
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # both kinds
        if not hub_bars:
            disable_progress_bars()


@contextmanager
def sentences(name: str, revision: str | None = None) -> Iterator[None]:
    """Turn what transformers and the Hub raise about the model `name` into one sentence with a remedy.

    A mistake in ropewalk's own code stays what it is.
    """
    try:
        with _reached(name):
            yield
    except (*_THEIRS, *_ANYBODYS) as error:
        if not isinstance(error, _THEIRS) and is_own(error):
            raise
        raise ModelError(_sentence(name, revision, error)) from error
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise ModelError(_sentence(name, revision, error)) from error
        raise


@contextmanager
def _reached(name: str) -> Iterator[None]:
    """Asks nothing of a Hub whose host has no address: it would be asked six times in half a minute, a warning each."""
    before, host = constants.HF_HUB_OFFLINE, urlsplit(constants.ENDPOINT).hostname
    if not (before or name in builtin.NAMES or Path(name).expanduser().exists() or getproxies()):
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _sentence(name: str, revision: str | None, error: BaseException) -> str:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(link, types) for link in chain)

    if caused_by(hub.GatedRepoError):
        return f"model {name!r} is gated; accept its licence at https://huggingface.co/{name} and run `hf auth login`."
    if caused_by(hub.RevisionNotFoundError):
        return (
            f"model {name!r} has no revision {revision!r} on the Hugging Face Hub; give a branch, tag or commit of it."
        )
    close = nearest(name.lower(), builtin.NAMES)
    near = f"write {close!r} for the built-in model, or " if close else ""
    if caused_by(hub.RepositoryNotFoundError, hub.HFValidationError):
        return (
            f"model {name!r} is no built-in name ({', '.join(builtin.NAMES)}), no directory, and not on the Hugging "
            f"Face Hub; {near}check the spelling, or run `hf auth login` if it is private."
        )
    if caused_by(hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, ConnectionError, TimeoutError):
        return (
            f"model {name!r} is not in the local cache and the Hugging Face Hub cannot be reached; "
            f"{near}run `hf download {name}` where there is a network, or give a directory."
        )
    if caused_by(torch.OutOfMemoryError, MemoryError):
        return f"model {name!r} does not fit into memory; use dtype bfloat16, device_map auto, or quantization."
    if "use_safetensors" in str(error):
        return (
            f"model {name!r} has no safetensors weights, and pickles, which can run any code, are not read; where you "
            "trust it, load it and call model.save_pretrained(directory), then give that directory."
        )
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return (
        f"model {name!r} could not be loaded ({type(error).__name__}: {reason}); "
        "check its files, and that the installed transformers knows the architecture."
    )
