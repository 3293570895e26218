"""msacat reddening"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msacat.cli.options import Dsn
from msacat.cli.output import print_line


def register(app: typer.Typer) -> None:
    app.command("reddening")(reddening)


def reddening(
    file: Annotated[Path, typer.Argument(help="The .parquet file to write; one that exists is replaced.")],
    maps: Annotated[
        Path, typer.Option(help="Folder with SFD_dust_4096_ngp.fits and SFD_dust_4096_sgp.fits.")
    ],
    dsn: Dsn = None,
) -> None:
    """Look up E(B-V) of every star in your copy of the SFD dust map, as a file to ingest.

    With `msacat ingest reddening_sfd FILE` it becomes an input of models trained from then on. Needs the package
    dustmaps (pip install 'msacat[dust]').
    """
    from msacat.catalog.errors import InputRejected
    from msacat.catalog.ingest.reddening_of_stars import write_reddening
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.register_survey import reference_spec

    with connect(dsn, read_only=True) as conn:
        require_store(conn)
        reference = reference_spec(conn)
        if reference is None:
            raise InputRejected("the store holds no stars", next_step="msacat ingest gaia_source FILE…")
        stars = write_reddening(conn, reference, maps, file)
    print_line(f"{file}: E(B-V) of {stars} stars")
    print_line(f"next: msacat ingest reddening_sfd {file}")
