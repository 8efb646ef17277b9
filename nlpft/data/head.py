"""What a file is, told by its first bytes, and by its ending only where they leave it open."""

import json
import re
from typing import Literal

from nlpft.data.scan import is_json
from nlpft.errors import DataError

Kind = Literal["array", "lines", "parquet", "csv", "tsv", "text"]
BOM = b"\xef\xbb\xbf"
BLANKS = b" \t\r\n"
WRAPPERS = ("data", "rows", "train", "examples", "items", "records", "instances", "samples", "dataset", "entries")
ROWS = re.compile(r"\[\s*\{")
FOREIGN = {  # first bytes -> what it is, and what to do
    b"version https://git-lfs": "a git LFS pointer, not the file itself; fetch it by `git lfs pull`",
    b"\x80": "a pickle, which nlpft never opens: it can run code; save the data as JSON or parquet",
    b"PK\x03\x04": "a zip archive; unpack it and name the files in it",
    b"BZh": "packed by bzip2; unpack it first (nlpft unpacks .gz and .zst)",
    b"\xfd7zXZ\x00": "packed by xz; unpack it first (nlpft unpacks .gz and .zst)",
    b"ARROW1": "an Arrow file; save the data as parquet (`Dataset.to_parquet`) or JSON",
    b"\xff\xff\xff\xff": "an Arrow stream; save the data as parquet (`Dataset.to_parquet`) or JSON",
    b"\xff\xfe": "UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8",
    b"<": "markup (a web page instead of the download?), not JSON",
}


def looks(head: bytes, name: str, ending: str, format: str, whole: bool) -> tuple[Kind, str]:
    """A file's kind, and the key of the object that its rows are wrapped in ('' for none).

    `head`: its first bytes, unpacked; `whole`: they are all. Raises DataError where nlpft reads no such file.
    """
    if head.startswith(b"PAR1"):
        return "parquet", ""
    text = head.removeprefix(BOM).lstrip(BLANKS)
    if not text:
        raise DataError(f"{name}: the file is empty")
    strict = ending in (".csv", ".tsv", ".txt", ".md")
    kind, key = _json(text, strict, whole)
    if kind:
        _check_encoding(text, name)
        return kind, key
    if ending in (".csv", ".tsv"):
        return ("csv" if ending == ".csv" else "tsv"), ""
    foreign = next((what for magic, what in FOREIGN.items() if text.startswith(magic) and magic != b"<"), "")
    if not foreign and (format == "text" or ending in (".txt", ".md")):
        return "text", ""
    if not foreign:
        _check_encoding(text, name)
    line = head[: len(head) - len(text)].count(b"\n") + 1
    foreign = foreign or (FOREIGN[b"<"] if text.startswith(b"<") else "")
    raise DataError(f"{name}:{line}: not JSON: {foreign}" if foreign else f"{name}:{line}: {NOT_JSON}")


NOT_JSON = "not JSON; nlpft reads JSON arrays, JSONL, parquet, CSV and TSV; for plain text take --format text"


def _json(text: bytes, strict: bool, whole: bool) -> tuple[Kind | None, str]:
    """The kind of JSON, if it is any; `strict`: the ending speaks against it, so that a bracket alone does not do."""
    lines = [line for line in text.split(b"\n") if line.strip(BLANKS)]
    complete = lines if whole else lines[:-1]
    if text[:1] == b"[":
        if len(lines) > 1 and complete and is_json(complete[0]) and lines[1].lstrip(BLANKS)[:1] in (b"[", b"{"):
            return "lines", ""  # a list on each line
        if not strict or re.match(rb"\[\s*(\{\s*\"|\]\s*$)", text):
            return "array", ""
        return None, ""
    objects = [line for line in complete[:200] if _is_object(line)]
    key = wrapper(text) if text[:1] == b"{" and (len(lines) == 1 or complete[:1] != objects[:1]) else None
    if key:
        return "array", key[0]
    openers = sum(line.lstrip(BLANKS)[:1] == b"{" for line in complete[:200])
    if objects and 2 * openers >= len(complete[:200]) and not (strict and complete[0] != objects[0]):
        return "lines", ""
    if text[:1] == b"{" and not strict:
        return "array", ""  # one object over several lines, or several one behind the other
    return None, ""


def _is_object(line: bytes) -> bool:
    return line.lstrip(BLANKS)[:1] == b"{" and is_json(line)


def wrapper(text: bytes) -> tuple[str, int] | None:
    """The key of an object whose value is the list of rows, as in {"version": 1, "data": [{...}]}, and where that list begins."""
    decoder, chars = json.JSONDecoder(), text.decode("latin-1")  # one character a byte
    at = 1
    while found := re.compile(r'[\s,]*("(?:[^"\\]|\\.){0,200}")\s*:\s*').match(chars, at):
        key, at = json.loads(found[1], strict=False), found.end()
        if key in WRAPPERS and ROWS.match(chars, at):
            return key, at
        try:
            _, at = decoder.raw_decode(chars, at)
        except (ValueError, RecursionError):
            return None
    return None


def _check_encoding(text: bytes, name: str) -> None:
    """Raise DataError where the text is in another encoding than UTF-8; single bad bytes cost their rows only."""
    try:
        text.decode("utf-8")
        return
    except UnicodeDecodeError as error:
        if error.start > len(text) - 4:
            return  # a character that the end of `text` cuts
    parts = text.replace(b"}", b"\n").split(b"\n")
    bad = sum(not _is_utf8(part) for part in parts)
    if bad > 2 and bad > len(parts) / 20 and text.decode("utf-8", "ignore").isascii():
        raise DataError(f"{name}: not UTF-8, perhaps Latin-1; convert it: iconv -f LATIN1 -t UTF-8")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
