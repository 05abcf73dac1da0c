"""Files with prompts: where they are found, and their lines, one at a time, with what is wrong said in terms of a line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from selfalign.errors import BadInput, PromptFileError
from selfalign.shipped import shipped

#: Longest line that is read, in bytes: what lies above is no prompt, and a file without line ends would fill the memory.
LONGEST_LINE = 1 << 26
#: How files begin that are something else than text.
_KINDS = {
    b"PAR1": "a Parquet file; read it with the source 'parquet'",
    b"PK\x03\x04": "a zip archive or spreadsheet; save the sheet as CSV, or unpack it",
    b"\x1f\x8b": "compressed (gzip); unpack it",
    b"\x28\xb5\x2f\xfd": "compressed (zstandard); unpack it",
    b"ARROW1": "an Arrow file; read its dataset with the source 'hf'",
    codecs.BOM_UTF16_LE: "UTF-16 text; save it as UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16 text; save it as UTF-8",
}


def find_file(path: str, base: Path, *, folders: bool = False) -> Path:
    """``path`` under ``base``, under the working folder, or in the shipped data/; with ``folders`` also a folder.

    Raises:
        PromptFileError: it is in none of them.
    """
    # "data/x.jsonl" in a config written for a checkout also names the shipped file of an installed package.
    shipped_name = Path(path).relative_to("data") if Path(path).parts[:1] == ("data",) else Path(path)
    tried = [base / path, Path.cwd() / path, shipped("data") / shipped_name]
    for candidate in tried:
        if candidate.is_file() or (folders and candidate.is_dir()):
            return candidate
    places = ", ".join(dict.fromkeys(str(candidate) for candidate in tried))
    raise PromptFileError(f"{path}: no such prompt file (tried {places}); check the path")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, bytes with the line end) of every line, one at a time; a UTF-8 byte-order mark is left out.

    Raises:
        PromptFileError: the file cannot be read, or a line is longer than any prompt.
    """
    try:
        with path.open("rb") as file:
            yield from _lines(path, file)
    except OSError as error:
        raise PromptFileError(f"{path}: cannot be read: {error.strerror}") from None


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise PromptFileError(
                f"{path}:{number}: longer than {LONGEST_LINE >> 20} MB; is this a file with one prompt a line?"
            )
        yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def read_text(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text with the line end) of every line of a text file.

    Raises:
        PromptFileError: as :func:`read_lines`; it is binary, or not of that encoding.
    """
    for number, line in read_lines(path):
        if number == 1 and (kind := next((said for mark, said in _KINDS.items() if line.startswith(mark)), None)):
            raise PromptFileError(f"{path}: not text but {kind}")
        if b"\0" in line:
            raise PromptFileError(
                f"{path}:{number}: not text (a zero byte at byte {line.index(0) + 1} of the line); is it a binary or UTF-16 "
                f"file? give a text file, saved as UTF-8"
            )
        try:
            yield number, line.decode(encoding)
        except UnicodeDecodeError as error:
            raise PromptFileError(
                f"{path}:{number}: not {encoding.upper()} (byte {error.start + 1} of the line); save the file as UTF-8, or "
                f"set encoding to what it is, such as cp1252 or gb18030"
            ) from None


def checked_encoding(name: str) -> str:
    """``name`` where lines can be told apart before decoding.

    Raises:
        ValueError: unknown, or of another kind, as UTF-16.
    """
    try:
        known = codecs.lookup(name).name
        plain = '\n,"a'.encode(known) == b'\n,"a'
    except (LookupError, UnicodeError, AttributeError):
        raise ValueError(f"unknown encoding '{name}'; write utf-8, cp1252, gb18030, shift_jis ...") from None
    if known == "utf-8-sig":  # a mark at the file's beginning is left out anyway
        return "utf-8"
    if not plain:
        raise ValueError(f"'{name}' cannot be read line by line; save the file as UTF-8")
    return known


def checked_text(text: object, what: str) -> str:
    """``text`` where it is whole characters and no longer than any prompt.

    Raises:
        BadInput: it is not.
    """
    assert isinstance(text, str)
    if len(text) > LONGEST_TEXT:
        raise BadInput(
            f"the {what} has {len(text):,} characters, more than any prompt ({LONGEST_TEXT:,}); shorten it or leave it out"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput(f"the {what} holds half a character (a lone surrogate); write the whole character") from None
    return text


#: Characters of a prompt or an answer: a million words is above every model's window.
LONGEST_TEXT = 5_000_000
