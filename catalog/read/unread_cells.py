"""Long quoted cells of columns nobody asked for, emptied before the text is parsed.

Nine tenths of an XP spectrum's row are correlations, which no table keeps: finding where such a cell ends takes a
fraction of the time that a CSV parser spends on its text.
"""

from __future__ import annotations

from collections.abc import Collection

LONG = 256  # bytes of a cell that are worth the search
_BYTE = {mark: ord(mark) for mark in "\r\n"}


def without_unread_cells(block: bytes, delimiter: str, quote: str, read: Collection[int]) -> bytes:
    """Whole lines of delimited text, where the long quoted cells are empty in all columns but those of `read`.

    Lines, columns and every other cell stay as they are. The same object where the first line has no such cell, and
    where any quote is not a plain cell's first or last byte: then only a parser can tell what is a cell.
    """
    mark, comma = quote.encode(), delimiter.encode()
    before, after = (comma[0], _BYTE["\n"]), (comma[0], _BYTE["\n"], _BYTE["\r"])
    find, count = block.find, block.count
    kept: list[bytes] = []
    start = copied = 0  # of the line; of what is in `kept`
    while start < len(block):
        end = find(b"\n", start)
        end = len(block) if end < 0 else end
        column, place = 0, start
        while (first := find(mark, place, end)) >= 0:
            last = find(mark, first + 1, end)
            if last < 0 or (first > start and block[first - 1] not in before):
                return block
            if last + 1 < len(block) and block[last + 1] not in after:
                return block
            column += count(comma, place, first)
            if last - first > LONG and column not in read:
                kept.append(block[copied : first + 1])
                copied = last
            place = last + 1
        if not kept:
            return block
        start = end + 1
    kept.append(block[copied:])
    return b"".join(kept)
