"""Reading and writing files for the command line: every error is one sentence, files are written atomically."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.music.types import Alignment, BadInput, Performance, Score

FULL = "The disk of the computer that Étude runs on is full, so this was not done; try again when there is room."
MIN_ROOM = 2_000_000  # bytes; a disk with less free space counts as full
READ_LIMIT = 20_000_001  # bytes; one more than any reader accepts, so that the reader reports the limit


def read_input(path: Path) -> bytes:
    """The bytes of an input file, up to READ_LIMIT. Raises BadInput with a sentence."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file in it.")
    try:
        with path.open("rb") as file:
            return file.read(READ_LIMIT)
    except FileNotFoundError:
        raise BadInput(f"There is no file {path}; check the name and the folder.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); choose another file.") from None


def check_input(path: Path) -> None:
    """Refuse a missing input before any work. Raises BadInput."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file in it.")
    if not path.exists():
        raise BadInput(f"There is no file {path}; check the name and the folder.")


def check_output(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse an unwritable output before any work. Raises BadInput."""
    folder = path.parent
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise BadInput(f"The output {path} is not a file; name a file to write.")
    if not folder.is_dir():
        raise BadInput(f"The output folder {folder} does not exist; make it first, or name another.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise BadInput(f"The output {path} cannot be written; choose a place where you may write.")
    if any(path.exists() and given.exists() and path.samefile(given) for given in inputs):
        raise BadInput(f"The output {path} would replace an input file; give it another name.")


def disk_is_full(folder: Path, bytes_: int = 0) -> bool:
    """Whether the disk of a folder, which need not exist yet, lacks space for more bytes."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free < bytes_ + MIN_ROOM


def put(path: Path, data: bytes) -> None:
    """Write a file atomically. Raises BadInput if the disk is full."""
    try:
        path.write_bytes(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BadInput(FULL) from None
        raise


def write_aside(path: Path, data: bytes) -> None:
    """Write aside, then rename: readers see the complete old or new file. Raises OSError."""
    aside = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}.", delete=False) as file:
            aside = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)
        aside.replace(path)
    except OSError:
        if aside is not None:
            aside.unlink(missing_ok=True)
        raise


def write_output(path: Path, data: bytes) -> None:
    """write_aside for the command line. Raises BadInput."""
    try:
        write_aside(path, data)
    except OSError as error:
        raise BadInput(f"{path} could not be written ({error.strerror}); the old file, if any, is untouched.") from None


def open_score_file(path: Path, note: Callable[[str], None] | None = None, all_parts: bool = False) -> Score:
    """Read a score; `note` is called with a line for each kind of remark. Raises BadInput.

    all_parts  include a song's voice part
    """
    from engine.music.remarks import remark_lines
    from engine.untrusted.scores import open_score

    score = open_score(read_input(path), path.name, all_parts=all_parts)
    if note is not None:
        for line in remark_lines(score.remarks):
            note(line)
    return score


def open_performance_file(path: Path) -> Performance:
    from engine.untrusted.scores import open_performance

    return open_performance(read_input(path), path.name)


def open_match_file(path: Path) -> tuple[Score, Performance, Alignment]:
    """Read a match file. Raises BadInput."""
    from engine.untrusted.matches import open_match

    return open_match(read_input(path), path.name)
