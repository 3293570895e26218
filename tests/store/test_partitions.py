"""docs/design.md's way to partition a filled table works as written, and everything goes on as before."""

from __future__ import annotations

import re
from pathlib import Path

from msacat.catalog.store.register_survey import refresh_views, register_survey
from msacat.catalog.store.star_view import view_columns
from msacat.catalog.surveys.load_specs import builtin_specs

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"


def insert(conn, source_id: int) -> None:
    conn.execute(
        "INSERT INTO survey.gaia_source (source_id, ra, dec, file_id) VALUES (%s, 10, 20, 1)", [source_id]
    )


def test_a_filled_table_becomes_a_partition(conn):
    register_survey(conn, builtin_specs()["gaia_source"])
    insert(conn, 5)
    before = view_columns(conn, "matched", "stars")
    block = re.search(r"```sql\nBEGIN;(.*?)COMMIT;", DESIGN.read_text(), re.DOTALL).group(1)
    for statement in re.sub(r"--[^\n]*", "", block).split(";"):
        if statement.strip():
            conn.execute(statement)
    refresh_views(conn)
    insert(conn, 16 * 2**55 + 3)
    assert [s for (s,) in conn.execute("SELECT source_id FROM matched.stars ORDER BY 1")] == [
        5,
        16 * 2**55 + 3,
    ]
    assert conn.execute("SELECT count(*) FROM survey.gaia_source_016").fetchone() == (1,)
    assert view_columns(conn, "matched", "stars") == before
    plan = conn.execute("EXPLAIN SELECT * FROM survey.gaia_source WHERE source_id = 5").fetchall()
    assert "gaia_source_016" not in str(plan)  # one star, one partition
    conn.execute("SET LOCAL enable_seqscan = off")
    plan = conn.execute(
        "EXPLAIN SELECT * FROM survey.gaia_source_clean WHERE q3c_radial_query(ra, dec, 10, 20, 0.01)"
    ).fetchall()
    assert "Bitmap Index Scan" in str(plan)
