"""The file of --ids: refused with the row of what is no source_id."""

from __future__ import annotations

import pytest

from msacat.catalog.enrich.enrich_request import read_ids
from msacat.catalog.errors import InputRejected


@pytest.mark.parametrize("second", ["²".encode(), b"\xff", b"1.5", b"-7", str(2**63).encode()])
def test_what_is_no_source_id_is_named_with_its_row(tmp_path, second):
    (tmp_path / "ids.txt").write_bytes(b"162086808711069700\n" + second + b"\n")
    with pytest.raises(InputRejected, match="not a source_id") as refused:
        read_ids(tmp_path / "ids.txt")
    assert refused.value.row == 2
