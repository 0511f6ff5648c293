"""Entry point of all untrusted files: check limits, read, validate the result.

MIDI is read in this process. MusicXML, .mxl, MEI, kern and ABC are scanned and parsed in a child process that is killed
after 8 seconds of CPU time or at 1.5 GB. Other files, and files over a limit, raise BadInput with one sentence.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine.limits import (
    KERN_BYTES,
    MAX_BARS,
    MAX_QUARTERS,
    MAX_SCORE_NOTES,
    MAX_TEMPO_BPM,
    MEASURES,
    SCORE,
    SCORE_BYTES,
)
from engine.music.io.midi import read_midi_performance, read_midi_score
from engine.music.io.xml_scan import stream_xml
from engine.music.remarks import bounded
from engine.music.types import BadInput, Performance, Score
from engine.process.notation_reader import ALL_PARTS, Refusals
from engine.process.reader_pool import borrow_child

MAX_ENTRIES = 50  # of an .mxl
MAX_BAR_QUARTERS = 2_000  # a piece without barlines is one bar
MAX_RATIO = 200  # unpacked to packed
_MENDED_QUARTER = 1 / 8  # length of a note whose written length is negative
_SCORE_KINDS = "MIDI (.mid), MusicXML (.musicxml, .xml, .mxl), Humdrum (.krn), MEI (.mei) or ABC (.abc)"


def open_score(data: bytes, filename: str, check: Callable[[], None] | None = None, all_parts: bool = False) -> Score:
    """Read a score from untrusted bytes; the bytes, not the name, decide the format.

    check      called several times a second; an exception that it raises ends the reading
    all_parts  include a song's voice part; otherwise it is omitted, with a remark
    Raises BadInput. Thread-safe; at most two notation files are parsed at a time.
    """
    name = shown(filename)
    if not data:
        raise BadInput(f"{name} is empty; choose a file of the kind {_SCORE_KINDS}.")
    if len(data) > SCORE_BYTES:
        raise BadInput(f"{name} has {len(data) / 1e6:.1f} MB; up to {SCORE_BYTES / 1e6:.0f} MB are accepted.")
    if data[:4] == b"MThd":
        return check_score(read_midi_score(data))
    if data[:2] == b"PK":
        data = unpack_mxl(data)
    if _is_xml(data):
        kind = "xml"  # the child determines the format and checks the limits
    elif _is_kern(data):
        if len(data) > KERN_BYTES:
            raise BadInput(
                f"{name} has {len(data) / 1e6:.1f} MB; kern files up to {KERN_BYTES / 1e6:.0f} MB are accepted."
            )
        kind = "kern"
    elif _is_abc(data):
        if len(data) > KERN_BYTES:
            raise BadInput(
                f"{name} has {len(data) / 1e6:.1f} MB; ABC files up to {KERN_BYTES / 1e6:.0f} MB are accepted."
            )
        kind = "abc"
    else:
        raise BadInput(f"{name} is not a score that can be read here; choose a file of the kind {_SCORE_KINDS}.")
    with borrow_child(check) as child:
        score = child.read(kind + ALL_PARTS * all_parts, data, check)
    return check_score(score)


def open_performance(data: bytes, filename: str) -> Performance:
    """Read a performance (a MIDI file) from untrusted bytes. Raises BadInput."""
    name = shown(filename)
    if not data:
        raise BadInput(f"{name} is empty; choose a MIDI file (.mid).")
    if data[:4] != b"MThd":
        raise BadInput(f"{name} is not a MIDI file; a performance is read from a MIDI file (.mid).")
    return read_midi_performance(data)


def call_apart(
    function: str, data: bytes, refusals: Refusals, check: Callable[[], None] | None = None, needs: str = ""
) -> bytes:
    """Call "module:function" on untrusted bytes in a child process under the limits of reading; return its bytes.
    Raises BadInput: the function's sentence, or one of `refusals` if the process crashes or exceeds a limit.
    """
    with borrow_child(check) as child:
        return child.call(function, data, refusals, check, needs)


def warm_up() -> None:
    """Start one reader process in advance, so that the first upload need not wait for its imports."""
    with borrow_child() as child:
        child.start()


def shown(filename: str) -> str:
    """A file name for a sentence: one short printable line in quotes."""
    name = re.split(r"[/\\]", filename)[-1]
    name = "".join(c for c in name if c.isprintable())[:80]
    return f"“{name}”" if name else "This file"


def _is_xml(data: bytes) -> bool:
    head = data[:200]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def _is_kern(data: bytes) -> bool:
    head = data[:20_000].removeprefix(b"\xef\xbb\xbf")
    return b"\x00" not in head[:4000] and re.search(rb"(?m)^(.*\t)?\*\*kern", head) is not None


def _is_abc(data: bytes) -> bool:
    """Whether the text has the two mandatory fields of a tune: X: before K:."""
    head = data[:20_000].removeprefix(b"\xef\xbb\xbf")
    return b"\x00" not in head[:4000] and re.search(rb"(?m)^X:\s*\d+\s*$[\s\S]*^K:", head) is not None


def check_score(score: Score) -> Score:
    """Validate all numbers of a score. Raises BadInput for impossible values."""
    times = np.concatenate([
        score.onset_quarter, score.duration_quarter, score.measures.onset_quarter, score.measures.duration_quarter
    ])  # fmt: skip
    if len(score) > MAX_SCORE_NOTES:
        raise BadInput(f"This score has {len(score)} notes; up to {MAX_SCORE_NOTES} are accepted.")
    if not np.isfinite(times).all() or (np.abs(times) > MAX_QUARTERS).any():
        raise BadInput("This score has impossible times; open it in a notation program and export it again.")
    if (score.measures.duration_quarter < 0).any():
        raise BadInput("This score has bars of negative length; open it in a notation program and export it again.")
    if (score.pitch < 0).any() or (score.pitch > 127).any() or (np.abs(score.spelling.astype(int)) > 40).any():
        raise BadInput("This score has notes outside the MIDI range 0 to 127; transpose them.")
    _check_bars(score)
    duration = np.where(score.duration_quarter < 0, _MENDED_QUARTER, score.duration_quarter)  # of notes cut by a tuplet
    low, high, _ = SCORE["staff"]
    staff = np.where((score.staff < low) | (score.staff > high), 0, score.staff)  # out of range: unknown
    low, high, _ = SCORE["voice"]
    return replace(
        score, duration_quarter=duration, staff=staff, voice=np.clip(score.voice, low, high),
        title=_line(score.title), composer=_line(score.composer),
        remarks=bounded(score.remarks),
    )  # fmt: skip


_BARS = {
    "position_quarter": "positions", "ts_num": "beats in a bar", "ts_den": "beat units",
    "fifths": "key signatures", "number": "numbers",
}  # fmt: skip


def _check_bars(score: Score) -> None:
    """Validate bars and tempo against the limits of a project file. Raises BadInput."""
    if len(score.measures.number) > MAX_BARS:
        raise BadInput(f"This score has {len(score.measures.number)} bars; up to {MAX_BARS:,} are accepted.")
    for name, what in _BARS.items():
        low, high, _ = MEASURES[name]
        values = getattr(score.measures, name)
        if (values < low).any() or (values > high).any():
            raise BadInput(
                f"This score has bars whose {what} are not {low:,} to {high:,}; open it in a notation program and "
                "export it again."
            )
    if (np.diff(score.measures.onset_quarter) < 0).any():
        raise BadInput("This score has bars that are out of order; open it in a notation program and export it again.")
    if (score.measures.duration_quarter > MAX_BAR_QUARTERS).any():
        raise BadInput(f"This score has a bar of over {MAX_BAR_QUARTERS:,} quarters; divide it into shorter bars.")
    if not 0 <= score.tempo_bpm <= MAX_TEMPO_BPM:
        raise BadInput(f"This score has a tempo of {score.tempo_bpm:g}; up to {MAX_TEMPO_BPM:,} are accepted.")


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())[:200]


def unpack_mxl(data: bytes) -> bytes:
    """The MusicXML inside a compressed .mxl file, read in chunks under the limits above. Raises BadInput."""
    broken = "This .mxl file is damaged; export it again from your notation program."
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                raise BadInput(f"This .mxl file has {len(entries)} entries; up to {MAX_ENTRIES} are accepted.")
            if sum(e.file_size for e in entries) > SCORE_BYTES:
                raise BadInput(f"This .mxl file unpacks to over {SCORE_BYTES / 1e6:.0f} MB; that is too large.")
            container = _entry(archive, "META-INF/container.xml", 100_000)
            return _entry(archive, _root_file(container), SCORE_BYTES)
    except BadInput:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, KeyError, IndexError) as error:
        raise BadInput(broken) from error


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput("This .mxl file uses an unsupported compression; export it again from your notation program.")
    limit = min(limit, MAX_RATIO * max(info.compress_size, 100))
    parts, size = [], 0
    with archive.open(info) as stream:
        while chunk := stream.read(65_536):
            size += len(chunk)
            if size > limit:
                raise BadInput(f"This .mxl file unpacks to over {limit / 1e6:.1f} MB; that is too large for its size.")
            parts.append(chunk)
    return b"".join(parts)


def _root_file(container: bytes) -> str:
    """The path of the first score in META-INF/container.xml."""
    found: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag.rsplit(":", 1)[-1] == "rootfile" and "full-path" in attributes:
            found.append(attributes["full-path"])

    stream_xml(container, start, lambda tag: None)
    if not found:
        raise BadInput("This .mxl file does not name its score; export it again.")
    return found[0]
