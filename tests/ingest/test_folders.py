"""What lies beside the tables of a folder does not stop their ingest; what may be one of them does."""

from __future__ import annotations

import gzip
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.ingest.plan_ingest import expand_paths
from msacat.catalog.surveys.load_specs import builtin_specs

GAIA = builtin_specs()["gaia_source"]
BESIDE = {
    "README.txt": b"Stars of the Pleiades, made in autumn\nby us, for you\n",
    "readme.tsv": b"field\tmeaning\nA\tthe first\n",
    "paper.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "title.txt": b"Overview\n",
    "sums.txt": b"0cc175b9c0f1b6a831c399e269772661  a.csv\n",
    "columns.md": b"| name | meaning |\n|------|---------|\n",
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_no_table_of_the_survey_is_skipped_and_reported(
    conn, gaia_rows, write_csv, tmp_path, name: str
):
    write_csv("folder/a.csv", gaia_rows(1))
    (tmp_path / "folder" / name).write_bytes(BESIDE[name])
    plan = plan_ingest(conn, "gaia_source", [tmp_path / "folder"])
    assert [p.name for p in plan.skipped] == [name]
    assert [f.outcome for f in run_ingest(conn, plan).files] == ["ingested"]


@pytest.mark.parametrize("name", ["README.txt", "paper.pdf", "title.txt"])
def test_named_outright_it_is_refused_when_it_is_read(conn, tmp_path, name: str):
    path = tmp_path / name
    path.write_bytes(BESIDE[name])
    plan = plan_ingest(conn, "gaia_source", [path])
    assert plan.files == (path,)
    [one] = run_ingest(conn, plan, keep_going=True).files
    assert one.outcome == "refused"


def _damaged() -> dict[str, bytes]:
    table = fits.BinTableHDU.from_columns([fits.Column("other", "D", array=np.zeros(1000))])
    whole = b"other,columns\n" + b"1,2\n" * 5000
    return {
        "short.csv.gz": gzip.compress(whole)[:-30],
        "begun.csv.gz": gzip.compress(whole)[:12],
        "short.fits": _bytes(table)[:6000],
        "no_header.csv": b"1,2,3\n4,5,6\n",
        "packed.csv.bz2": b"BZh91AY",
        "one_column_known.csv": b"x,DESIGNATION\n1,Gaia DR3 2\n",
        "other_table.fits": _bytes(table),
    }


def _bytes(table: fits.BinTableHDU) -> bytes:
    out = BytesIO()
    table.writeto(out)
    return out.getvalue()


@pytest.mark.parametrize("name", _damaged())
def test_what_may_be_a_table_of_the_survey_is_never_skipped(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(_damaged()[name])
    files, skipped = expand_paths([tmp_path], GAIA)
    assert [p.name for p in files] == [name] and skipped == ()


def test_another_product_of_the_survey_is_refused_not_skipped(tmp_path: Path):
    spec = builtin_specs()["panstarrs1"]
    path = tmp_path / "stack.csv"
    path.write_text(f"x,{next(iter(spec.refuse_columns))}\n1,2\n")
    assert expand_paths([tmp_path], spec) == ((path,), ())
