"""msacat.read_xp gives GaiaXPy what it takes as it is: published spectra and predicted ones."""

from __future__ import annotations

import re
from pathlib import Path

import gaiaxpy
import numpy as np
import psycopg
import pytest

import msacat
from msacat.catalog.errors import InputRejected, StoreUnavailable, UsageError
from msacat.catalog.xp.xp_operators import synthetic_magnitudes

README = Path(__file__).resolve().parents[2] / "README.md"
FAINT, BRIGHT = "gaia_g > 17.65 AND NOT bp_observed", "gaia_g < 15 AND bp_observed AND rp_observed"


def test_gaiaxpy_generates_the_photometry_our_operators_give(trained_once, monkeypatch):
    monkeypatch.setenv("MSACAT_DSN", trained_once)
    for where in (FAINT, BRIGHT):
        xp = msacat.read_xp(where=where, limit=25)
        assert len(xp) == 25 and (xp["bp_observed"] == (where == BRIGHT)).all()
        found = gaiaxpy.generate(
            xp, photometric_system=gaiaxpy.PhotometricSystem.PanSTARRS1_Std, save_file=False
        )
        assert (found["source_id"].to_numpy() == xp["source_id"].to_numpy()).all()
        theirs = found[[f"Panstarrs1Std_mag_{band}p" for band in "grizy"]].to_numpy()
        xp_BK = np.hstack([np.stack(xp["bp_coefficients"]), np.stack(xp["rp_coefficients"])])
        ours, _ = synthetic_magnitudes(xp_BK, [f"PanSTARRS1_Std:{band}p" for band in "grizy"])
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_predicted_spectra_agree_with_the_imputed_magnitudes(trained_once, sky):
    """One model, two ways to a magnitude: its own, and GaiaXPy's filter on its spectrum."""
    xp = msacat.read_xp(trained_once, where=f"{FAINT} AND gaia_g < 19 AND suspect = 0", limit=200)
    xp_BK = np.hstack([np.stack(xp["bp_coefficients"]), np.stack(xp["rp_coefficients"])])
    synthetic, _ = synthetic_magnitudes(xp_BK, ["PanSTARRS1_Std:ip"])
    with psycopg.connect(trained_once) as conn:
        imputed = dict(conn.execute("SELECT source_id, ps1_i FROM enriched.stars").fetchall())
    deviation = synthetic[:, 0] - np.array([imputed[s] for s in xp["source_id"]])
    assert np.median(np.abs(deviation)) < 0.1


def test_calibrate_takes_it_too(trained_once):
    spectra, sampling = gaiaxpy.calibrate(msacat.read_xp(trained_once, where=FAINT, limit=5), save_file=False)
    assert len(spectra) == 5 and all(
        np.isfinite(flux).all() and len(flux) == len(sampling) for flux in spectra["flux"]
    )


def test_the_readme_shows_what_works(trained_once, monkeypatch):
    monkeypatch.setenv("MSACAT_DSN", trained_once)
    programs = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (program,) = [p for p in programs if "read_xp" in p]
    names: dict = {}
    exec(program, names)
    assert len(names["photometry"]) == len(names["xp"]) == 100


def test_ids_come_in_the_order_given_and_unknown_ones_are_nan(trained_once):
    with psycopg.connect(trained_once) as conn:
        known = [
            s
            for (s,) in conn.execute(
                "SELECT source_id FROM enriched.stars WHERE has_input ORDER BY 1 LIMIT 5"
            )
        ]
        published = conn.execute(
            "SELECT source_id, bp_coefficients FROM survey.xp_spectra ORDER BY 1 DESC LIMIT 1"
        ).fetchone()
    asked = [known[3], 4711, known[0], published[0], known[3]]
    xp = msacat.read_xp(trained_once, source_ids=asked)
    assert xp["source_id"].dtype == np.int64 and list(xp["source_id"]) == asked
    assert np.isnan(xp["bp_coefficients"][1]).all() and len(xp["rp_coefficient_errors"][1]) == 55
    assert not xp["bp_observed"][1]
    assert all(np.isfinite(xp["rp_coefficients"][i]).all() for i in (0, 2, 3, 4))
    assert xp["bp_observed"][3]
    np.testing.assert_array_equal(np.float32(xp["bp_coefficients"][3]), np.float32(published[1]))
    assert list(msacat.read_xp(trained_once, source_ids=[]).columns) == list(xp.columns)
    few = msacat.read_xp(trained_once, source_ids=asked, limit=2)
    assert few["source_id"].tolist() == list(asked)[:2]
    for name in ("bp_observed", "rp_observed"):
        assert few[name].tolist() == xp[name].tolist()[:2]
    with pytest.raises(UsageError, match="not both"):
        msacat.read_xp(trained_once, where="gaia_g < 15", source_ids=asked)


def test_what_cannot_be_read_is_said(trained_once, store):
    for where in ("no_such_column > 1", "gaia_g >", "gaia_g < 17; DROP TABLE msacat.files"):
        with pytest.raises(UsageError, match="where: "):
            msacat.read_xp(trained_once, where=where)
    with pytest.raises(InputRejected, match="no run is published"):
        msacat.read_xp(store)
    with pytest.raises(StoreUnavailable):
        msacat.read_xp("host=/no/such/folder dbname=a")
