"""IPAC tables (CatWISE2020 `.tbl.gz`): `\\` keyword lines, `|` header lines, fixed-width rows.

Format: https://irsa.ipac.caltech.edu/applications/DDGEN/Doc/ipac_tbl.html. The `|` signs of the header say where
columns begin and end; up to four header lines give names, types, units and the null value of each column.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.decompress import DOWNLOAD_AGAIN, read_ahead
from msacat.catalog.read.fixed_width import Span, fixed_width_parser, select_columns
from msacat.catalog.read.read_delimited_text import sliced
from msacat.catalog.read.survey_file import FileColumn, SurveyFile, refuse_repeated_names
from msacat.catalog.read.text_blocks import ParsedBlock, line_blocks


class IpacFile(SurveyFile):
    """An IPAC table; `head` is the beginning of its content, header included."""

    format = "ipac"

    def __init__(self, path: Path, head: bytes, max_bad_rows: int) -> None:
        self.path, self.max_bad_rows = path, max_bad_rows
        header: list[str] = []
        offset = 0
        while offset < len(head) and head[offset : offset + 1] in (b"\\", b"|", b"\n", b"\r"):
            end = head.find(b"\n", offset)
            end = len(head) if end < 0 else end
            line = head[offset:end].rstrip(b" \r").decode("utf-8", "replace")
            if line.startswith("|"):
                header.append(line)
            offset = end + 1
        self.data_offset = min(offset, len(head))
        bars = [i for i, mark in enumerate(header[0]) if mark == "|"] if header else []
        if len(bars) < 2:
            raise self._bad_header(
                "a line of column names between `|` signs", header[0] if header else "none"
            )
        self.bars = np.array(bars)
        for line in header[1:]:
            if any(i >= len(line) or line[i] != "|" for i in bars):
                raise self._bad_header("`|` signs below those of the first header line", line)
        names, _types, units, nulls = ([*map(self._cells, header), *[[""] * (len(bars) - 1)] * 4])[:4]
        refuse_repeated_names(names, path)
        self.columns = [
            FileColumn(n, u if u not in ("", "-", "--", "null") else None)
            for n, u in zip(names, units, strict=True)
        ]
        self.nulls = nulls

    def _cells(self, line: str) -> list[str]:
        return [line[a + 1 : b].strip() for a, b in zip(self.bars[:-1], self.bars[1:], strict=True)]

    def _bad_header(self, expected: str, found: str) -> InputRejected:
        return InputRejected(
            "the IPAC header cannot be read",
            file=str(self.path),
            expected=expected,
            found=found[:80],
            next_step=DOWNLOAD_AGAIN,
        )

    def _read(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        position = {column.name: i for i, column in enumerate(self.columns)}
        spans = [
            Span(int(self.bars[i]) + 1, int(self.bars[i + 1]), self.nulls[i])
            for i in (position[name] for name in wanted)
        ]
        parser = fixed_width_parser(self.path, wanted, (s.end - s.start for s in spans), self.max_bad_rows)
        first_row = 1
        for block in read_ahead(line_blocks(self.path, self.data_offset)):
            grid, skipped = self._grid(block, first_row)
            self.rows_bad += len(skipped)
            if len(grid):
                table = parser.parse(select_columns(grid, spans), first_row).table
                for start, run in ParsedBlock(table, skipped).runs(first_row):
                    yield from sliced(start, run, rows)
            first_row += len(grid) + len(skipped)

    def _grid(self, block: bytes, first_row: int) -> tuple[np.ndarray, list[int]]:
        """The block's good rows as uint8[n, width], and the positions of malformed ones.

        A row must reach the header's last `|` (blanks beyond it are allowed) and be blank below every `|`.
        """
        width = int(self.bars[-1])
        step = block.find(b"\n") + 1
        grid = np.frombuffer(block, np.uint8)
        if step > width and len(block) % step == 0:
            grid = grid.reshape(-1, step)
            if (grid[:, -1] == ord("\n")).all() and self._is_regular(grid, width).all():
                return grid[:, :width], []
        return self._irregular_grid(block, first_row, width)

    def _is_regular(self, grid: np.ndarray, width: int) -> np.ndarray:
        below_bars = (grid[:, self.bars[:-1]] == ord(" ")).all(axis=1)
        beyond = np.isin(grid[:, width:], list(b" \r\n")).all(axis=1)
        inside = grid[:, :width].min(axis=1) >= ord(" ")
        return below_bars & beyond & inside

    def _irregular_grid(self, block: bytes, first_row: int, width: int) -> tuple[np.ndarray, list[int]]:
        good: list[bytes] = []
        skipped: list[int] = []
        lines = [line.rstrip(b"\r") for line in block.split(b"\n")]
        for index, line in enumerate(line for line in lines if line):
            row = np.frombuffer(line, np.uint8)[None, :]
            if len(line) >= width and self._is_regular(row, width).all():
                good.append(line[:width])
                continue
            skipped.append(index)
            if self.rows_bad + len(skipped) > self.max_bad_rows:
                raise InputRejected(
                    "the row does not fit the header's columns",
                    file=str(self.path),
                    row=first_row + index,
                    expected=f"{width} characters, blank below each `|`",
                    found=f"{len(line)} characters: {line[:60]!r}",
                    next_step=f"{DOWNLOAD_AGAIN}, or allow a few such lines with --max-bad-rows",
                )
        return np.frombuffer(b"".join(good), np.uint8).reshape(-1, width), skipped
