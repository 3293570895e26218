"""An archive's column that already holds what the survey file computes is taken as it is, whatever it is called."""

from __future__ import annotations

import pytest

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.adopt_table import adopt


def _archive(conn, name: str) -> None:
    conn.execute(f'CREATE TABLE public.held ("objectId" bigint PRIMARY KEY, coord_ra double precision, '
                 f'coord_dec double precision, "{name}" double precision, "r_psfFlux" real)')  # fmt: skip
    conn.execute("INSERT INTO public.held VALUES (1, 10, 20, 18.25, 500), (2, 11, 20, 99, 500)")
    conn.execute("CREATE INDEX ON public.held (q3c_ang2ipix(coord_ra, coord_dec))")
    conn.commit()


@pytest.mark.parametrize(("name", "given"), [("gmag", {"g_psfmag": "gmag"}), ("G_PSFMag", {})])
@pytest.mark.parametrize("unit", [None, "mag"])
def test_a_magnitude_computed_already_is_taken_as_it_is(conn, name: str, given: dict, unit: str | None):
    _archive(conn, name)
    if unit:
        conn.execute(f"COMMENT ON COLUMN public.held.\"{name}\" IS 'Magnitude in g. unit=mag ucd=phot.mag'")
        conn.commit()
    report = adopt(conn, "lsst", "public.held", given)
    assert report.columns["g_psfmag"] == name and report.converted == {}
    rows = conn.execute("SELECT g_psfmag FROM survey.lsst ORDER BY lsst_id").fetchall()
    assert rows == [(18.25,), (None,)]


def test_a_flux_named_as_the_magnitude_is_still_refused(conn):
    _archive(conn, "gflux")
    conn.execute("COMMENT ON COLUMN public.held.gflux IS 'Flux in g. unit=nJy ucd=phot.flux'")
    conn.commit()
    with pytest.raises(InputRejected, match="does not convert"):
        adopt(conn, "lsst", "public.held", {"g_psfmag": "gflux"})
