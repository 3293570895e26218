"""Rows read packed, by pages and through a cursor, are the rows of the table."""

from __future__ import annotations

import numpy as np
import pytest
from psycopg import sql

from msacat.catalog.crossmatch import read_packed
from msacat.catalog.crossmatch.read_packed import PackedQuery, split_lines
from msacat.catalog.errors import InputRejected

COLUMNS = {
    "n": ("i8", sql.SQL("t.n")),
    "a": ("f8", sql.SQL("t.a")),
    "b": ("f8", sql.SQL("t.b")),
    "c": ("f8", sql.SQL("t.c")),
    "flag": ("b", sql.SQL("t.flag")),
}


@pytest.fixture
def table(conn):
    conn.execute(
        "CREATE TABLE survey.t (n bigint, a float8, b float8, c float8, flag boolean, name text, wide text)"
    )
    conn.execute(
        "INSERT INTO survey.t SELECT (1::bigint << 60) + i, i / 7.0, nullif(i, 5), 2016.0, i % 3 = 0, "
        "repeat('é', i % 4) || i, repeat('x', 500) FROM generate_series(1, 100) i"
    )
    conn.execute("UPDATE survey.t SET flag = NULL WHERE n % 10 = 0")
    return conn


def read(conn, monkeypatch, by_pages: bool, **more):
    monkeypatch.setattr(read_packed, "PAGES_AT_ONCE", 2)
    monkeypatch.setattr(read_packed, "PAGES_A_MESSAGE", 1)
    monkeypatch.setattr(read_packed, "ROWS_AT_ONCE", 7)
    query = PackedQuery(
        COLUMNS, sql.SQL("survey.t t"), sql.SQL("t.n % 2 = 0"), text_id=sql.SQL("t.name"),
        table=("survey", "t", "t") if by_pages else None, **more,
    )  # fmt: skip
    chunks = [arrays for part in query.parts(conn) for arrays in query.read(conn, part)]
    assert len(chunks) > 3
    return {name: np.concatenate([c[name] for c in chunks]) for name in [*COLUMNS, "id"]}


@pytest.mark.parametrize("by_pages", [True, False])
@pytest.mark.parametrize("usual", [{}, {"c": 2016.0}, {"c": 1.0}])
def test_every_row_comes_as_it_is(table, monkeypatch, by_pages, usual):
    table.execute("UPDATE survey.t SET c = NULL WHERE n % 50 = 0")
    found = read(table, monkeypatch, by_pages, usual=usual)
    order = np.argsort(found["n"])
    expected = table.execute(
        "SELECT n, a, b, c, flag, name FROM survey.t WHERE n % 2 = 0 ORDER BY n"
    ).fetchall()
    columns = list(zip(*expected, strict=True))
    assert found["n"][order].tolist() == list(columns[0])
    for name, column in zip("abc", columns[1:4], strict=True):
        np.testing.assert_array_equal(found[name][order], np.array(column, float))
    assert found["flag"][order].tolist() == [bool(x) for x in columns[4]]
    assert [x.decode() for x in found["id"][order]] == list(columns[5])


@pytest.mark.parametrize("by_pages", [True, False])
def test_an_id_with_a_line_feed_is_refused(table, monkeypatch, by_pages):
    table.execute("UPDATE survey.t SET name = E'two\\nlines' WHERE n % 8 = 0")
    with pytest.raises(InputRejected, match="line feed"):
        read(table, monkeypatch, by_pages)


def test_a_missing_id_is_refused(table, monkeypatch):
    table.execute("UPDATE survey.t SET n = NULL WHERE n % 8 = 0")
    monkeypatch.setitem(COLUMNS, "n", ("i8", sql.SQL("t.n")))
    query = PackedQuery(COLUMNS, sql.SQL("survey.t t"), sql.SQL("true"), table=("survey", "t", "t"))
    with pytest.raises(InputRejected, match="id is NULL"):
        list(query.read(table, query.parts(table)[0]))


def test_lines_of_any_length():
    assert split_lines(b"a\n\nlong one\nb", 4).tolist() == [b"a", b"", b"long one", b"b"]
    assert split_lines(b"", 1).tolist() == [b""]
