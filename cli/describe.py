"""msacat describe"""

from __future__ import annotations

from textwrap import shorten
from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn
from msacat.cli.output import print_json, print_line, print_table


def register(app: typer.Typer) -> None:
    app.command("describe")(describe)


def describe(
    relation: Annotated[
        str | None, typer.Argument(help="Table or view, e.g. enriched.stars; a list of all if left out.")
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Show tables and views, or what the columns of one mean.

    Of a table or view: each column with type, unit, UCD and a sentence, as its comment in the database says. Of a
    survey's the bits of quality as well.
    """
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.describe_store import describe_columns, describe_relations, find_relation
    from msacat.catalog.store.register_survey import registered_specs
    from msacat.cli.survey import print_quality

    with connect(dsn) as conn:
        require_store(conn)
        if relation is None:
            relations = describe_relations(conn)
            if as_json:
                print_json(relations)
            else:
                print_table(
                    ["relation", "rows (estimate)", "what"],
                    [(r.name, r.rows, shorten(r.about or "", 120, placeholder=" …")) for r in relations],
                )
            return
        relation = find_relation(conn, relation)
        columns = describe_columns(conn, relation)
        schema, _, name = relation.partition(".")
        specs = registered_specs(conn) if schema == "survey" else {}
    if as_json:
        print_json(columns)
        return
    print_line(relation)
    print_table(
        ["column", "type", "unit", "UCD", "meaning"],
        [(c.name, c.type, c.unit, c.ucd, c.meaning) for c in columns],
    )
    if spec := specs.get(name) or specs.get(name.removesuffix("_clean")):
        print_quality(spec)
