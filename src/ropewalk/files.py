"""Files that are whole or not there, and that lie where they are said to lie.

The only place that makes files in a run directory. Names below a directory are walked by descriptor and no link in them
is followed, whoever made the directory; what is read is a regular file of a bounded size, so that no pipe or device
stops the reader. The path of the directory itself, and of a file that a user names, is the user's own word.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe without a writer would never open
ASIDE = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
"""What a file is called until it is whole."""


def sha256(data: bytes) -> str:
    """The hash of bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes, 64 hex digits; the file may be larger than memory. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_whole(directory: Path, name: str, data: bytes) -> None:
    """Write `directory/name` whole or not at all: aside, flushed to the disk, then renamed. Folders of `name` are made.

    Raises:
        OSError: it cannot be written, or lies behind a link; what stood there before still does.
    """
    with _folder(directory, name, make=True) as (folder, last):
        aside = f".{last}.{secrets.token_hex(8)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(aside, flags, 0o666, dir_fd=folder)
        try:
            with open(made, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, last, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)  # else a row of the database may outlive the name of its file when the power fails
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside, dir_fd=folder)
            raise


def read_inside(directory: Path, name: str, most: int) -> bytes:
    """The bytes of `directory/name`. Raises OSError as `read_regular`, and where a link lies on the way."""
    with _folder(directory, name) as (folder, last):
        return _read(os.open(last, READ | os.O_NOFOLLOW, dir_fd=folder), directory / name, most)


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file. Raises OSError for any other, and for one of more than `most` bytes."""
    return _read(os.open(path, READ), path, most)


def open_own(directory: Path, name: str) -> int:
    """A descriptor to read and write `directory/name`, made if it is not there. Raises OSError for a link to
    anything, hard ones included."""
    found = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    facts = os.fstat(found)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        os.close(found)
        raise OSError(errno.EINVAL, "it is no file of its own", str(directory / name))
    return found


def is_locked(directory: Path, name: str) -> bool:
    """Whether a process holds the lock on `directory/name`; nothing is made or written."""
    try:
        found = os.open(directory / name, READ | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(found, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(found)


def remove(directory: Path, name: str) -> None:
    """Remove `directory/name` (a link, not what it points to) if it is there. Raises OSError as `write_whole`."""
    with contextlib.suppress(FileNotFoundError), _folder(directory, name) as (folder, last):
        os.unlink(last, dir_fd=folder)


def remove_asides(directory: Path, folders: Sequence[str]) -> None:
    """Remove what `write_whole` left half written in a directory and these folders of it, as a kill leaves it."""
    for each in (".", *(f"{name}/." for name in folders)):
        with contextlib.suppress(FileNotFoundError), _folder(directory, each) as (folder, _):
            for name in filter(ASIDE.fullmatch, os.listdir(folder)):
                os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _folder(directory: Path, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """Descriptor of the folder that `directory/name` lies in, and the last part of its name."""
    *parts, last = name.split("/") if not PurePosixPath(name).is_absolute() else [".."]
    if {"", ".."} & {*parts, last}:
        raise OSError(errno.EINVAL, "it lies outside the directory", str(directory / name))
    with contextlib.ExitStack() as opened:
        found = os.open(directory, FOLDER)
        opened.callback(os.close, found)
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=found)
            try:
                found = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=found)
            except NotADirectoryError:
                raise OSError(errno.ENOTDIR, "a link or no directory", str(directory / part)) from None
            opened.callback(os.close, found)
        yield found, last


def _read(found: int, path: Path, most: int) -> bytes:
    facts = os.fstat(found)
    if not stat.S_ISREG(facts.st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with open(found, "rb") as file:
        data = file.read(facts.st_size + 1) if facts.st_size <= most else b""
        if facts.st_size > most or len(data) > facts.st_size:  # the latter says nothing of where it ends
            raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
        return data
