"""Pipes, and names that the ledger cannot hold, are refused in words before anything of them is read."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from msacat.catalog.enrich.enrich_request import read_ids
from msacat.catalog.errors import InputRejected
from msacat.catalog.read.checksums import file_checksums
from msacat.catalog.read.decompress import seekable_content
from msacat.catalog.read.read_survey_file import open_survey_file
from msacat.catalog.stream.split_sky import load_split


@pytest.fixture
def pipe(tmp_path):
    """A named pipe; nobody writes into it, so that opening it would never return."""
    os.mkfifo(tmp_path / "table.csv")
    return tmp_path / "table.csv"


def refused(do, path: Path, what: str = "a pipe") -> None:
    """`do(path)` ends at once, in words."""
    ended: list[BaseException | None] = []

    def call() -> None:
        try:
            do(path)
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert ended, "it waits for the pipe"
    (error,) = ended
    assert isinstance(error, InputRejected), error
    assert (error.file, error.expected, error.found) == (str(path), "a regular file", what)
    assert "to a file first" in (error.next_step or "") and error.exit_code == 1


@pytest.mark.parametrize(
    "read",
    [open_survey_file, file_checksums, seekable_content, read_ids, lambda path: load_split(None, path)],
)
def test_a_pipe_is_refused_by_every_reader(pipe, tmp_path, read):
    refused(read, pipe)
    (tmp_path / "link.csv").symlink_to(pipe)
    refused(read, tmp_path / "link.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    refused(read, tmp_path / "zero.csv", "a device")


def test_a_plain_list_of_ids_from_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "ids")
    refused(read_ids, tmp_path / "ids")


def test_a_pipe_of_the_shell_is_refused_by_ingest(store, msacat_at, write_csv, gaia_rows):
    with subprocess.Popen(["echo", "source_id,ra,dec"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        path = f"/dev/fd/{writer.stdout.fileno()}"
        found = msacat_at(store, "ingest", "gaia_source", path)
        assert found.code == 1 and path in found.err and "a regular file" in found.err
        good = write_csv("a.csv", gaia_rows(2))
        found = msacat_at(store, "ingest", "gaia_source", path, good, "--keep-going", "--json")
    assert found.code == 1, found.err
    assert [f["outcome"] for f in json.loads(found.out)["files"]] == ["refused", "ingested"]


@pytest.mark.parametrize("how", [(), ("--dry-run",)])
def test_a_name_that_is_not_utf8_is_refused_in_words(store, msacat_at, write_csv, gaia_rows, tmp_path, how):
    write_csv("odd/good.csv", gaia_rows(2))
    odd = write_csv(os.fsdecode(b"odd/bad\xff.csv"), gaia_rows(2, start=5))
    found = msacat_at(store, "ingest", "gaia_source", odd, *how)
    assert found.code == 1 and "bad\\xff.csv" in found.err and "rename it" in found.err
    found = msacat_at(store, "ingest", "gaia_source", tmp_path / "odd", "--keep-going", *how)
    assert found.code == 1 and "bad\\xff.csv" in found.out and "good.csv" in found.out
    found.out.encode()
    found = msacat_at(store, "ingest", "gaia_source", tmp_path / "odd", "--keep-going", "--json", *how)
    assert [Path(f["path"]).name for f in json.loads(found.out)["files"]] == ["bad\\xff.csv", "good.csv"]
    assert "cannot be recorded" in json.loads(found.out)["files"][0]["error"]


def test_what_is_no_table_may_have_any_name(store, msacat_at, write_csv, gaia_rows, tmp_path):
    write_csv("odd/good.csv", gaia_rows(2))
    (tmp_path / os.fsdecode(b"odd/notes\xff.pdf")).write_bytes(b"%PDF-1.4")
    found = msacat_at(store, "ingest", "gaia_source", tmp_path / "odd", "--json")
    assert found.code == 0 and json.loads(found.out)["skipped"][0].endswith("notes\\xff.pdf")
    found.err.encode()


def test_forget_of_a_name_that_is_not_utf8(store, msacat_at):
    found = msacat_at(store, "forget", os.fsdecode(b"odd/bad\xff.csv"))
    assert found.code == 2 and "nothing called 'odd/bad\\xff.csv' was ingested" in found.err
