"""Memory does not grow with the file: peak resident size of a process that reads a small file, then a large one."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.read_survey_file import open_survey_file

READ = """
import sys
from pathlib import Path
import pyarrow as pa
from msacat.catalog.read.read_survey_file import open_survey_file
for path in sys.argv[1:]:
    n = 0
    with open_survey_file(Path(path)) as file:
        wanted = {c.name: pa.list_(pa.float32()) if c.name == "flux" else pa.float64() for c in file.columns}
        for _, batch in file.batches(wanted, rows=4096):
            n += batch.num_rows
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(n, int(peak.split()[1]) // 1024)
"""


def write(path: Path, n_rows: int, kind: str) -> None:
    """`n_rows` rows of one number and an array of 100."""
    rng = np.random.default_rng(0)
    if kind == "csv.gz":
        rows = rng.random((1000, 100)).astype(np.float32).tolist()
        block = "".join(f'1.5,"({", ".join(map(repr, row))})"\n' for row in rows)
        path.write_bytes(gzip.compress(b"ra,flux\n") + gzip.compress(block.encode(), 1) * (n_rows // 1000))
        return
    table = Table({"ra": rng.random(n_rows), "flux": rng.random((n_rows, 100)).astype(np.float32)})
    if kind == "parquet":
        lists = pa.FixedSizeListArray.from_arrays(table["flux"].ravel(), 100)
        pq.write_table(
            pa.table({"ra": table["ra"], "flux": lists}), path, row_group_size=10_000, compression="none"
        )
    elif kind == "vot":
        table.write(path, format="votable", tabledata_format="binary2")
    else:
        table.write(path)


#: rows of the two files: about 40 and 160 MB of content, less of the slowly written VOTable
SIZES = {
    "csv.gz": (20_000, 80_000),
    "fits": (100_000, 400_000),
    "parquet": (100_000, 400_000),
    "vot": (5_000, 20_000),
}


WARM_UP = 4


@pytest.mark.parametrize("kind", SIZES)
def test_peak_memory_is_bounded(tmp_path, kind):
    paths = [tmp_path / f"{n_rows}.{kind}" for n_rows in SIZES[kind]]
    for path, n_rows in zip(paths, SIZES[kind], strict=True):
        write(path, n_rows, kind)
    # the small file often enough that the allocator's threads have all their arenas: the first reads differ by chance
    small, large = paths
    order = [small] * WARM_UP + [large]
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, order)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},  # one arena: which thread opens another is chance
    )
    numbers = [int(word) for word in done.stdout.split()]
    assert numbers[::2] == [SIZES[kind][0]] * WARM_UP + [SIZES[kind][1]]
    growth = numbers[-1] - numbers[-3]
    assert growth < 30, f"{growth} MiB more for four times the rows"


def test_a_gzip_bomb_is_refused_in_bounded_memory(tmp_path):
    """1 GiB of one endless line from 1 MiB."""
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"ra,flux\n1,2\n") + gzip.compress(b"1" * 2**26, 9) * 16)
    assert path.stat().st_size < 2**21
    with open_survey_file(path) as file, pytest.raises(InputRejected, match="no line ends"):
        list(file.batches({"ra": pa.float64()}))
