"""A server folder that the user may not enter: whose it is and what to do, from every command that meets it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NOBODY = 65534


@contextmanager
def not_root() -> Iterator[None]:
    """Root may enter every folder: as another account it may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(params=["the folder", "the data", "another's data"])
def closed_home(request, short_folder, monkeypatch):
    """A home whose server, or only its data, is closed to the user of `not_root`."""
    if request.param == "another's data" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    home = short_folder / uuid.uuid4().hex[:8]
    server = home / "server"
    data = server / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    if os.geteuid() == 0:
        shutil.chown(home, NOBODY)
        for place in (server, data, data / "PG_VERSION"):
            shutil.chown(
                place, "postgres" if request.param == "another's data" and place != server else NOBODY
            )
    closed = server if request.param == "the folder" else data
    closed.chmod(0o000)
    monkeypatch.setenv("MSACAT_HOME", str(home))
    yield home
    closed.chmod(0o700)
    shutil.rmtree(home)


def _as_not_root(msacat_at, monkeypatch, home, *command):
    """The command's modules are loaded first, from where that account may perhaps not read."""
    monkeypatch.setenv("MSACAT_HOME", str(home / ("x" * 100)))  # too long for a server
    msacat_at(None, *command)
    monkeypatch.setenv("MSACAT_HOME", str(home))
    with not_root():
        return msacat_at(None, *command)


@pytest.mark.parametrize(
    "command", [("status",), ("db", "status"), ("db", "start"), ("db", "stop"), ("doctor",)], ids=" ".join
)
def test_it_is_said_whose_folder_it_is(closed_home, msacat_at, monkeypatch, command):
    found = _as_not_root(msacat_at, monkeypatch, closed_home, *command)
    assert found.code == 3, found
    said = found.out + found.err
    assert "account" in said and "Permission denied: " not in said
    assert "MSACAT_HOME" in said and "MSACAT_DSN" in said


def test_doctor_names_it_as_a_fault(closed_home, msacat_at, monkeypatch):
    found = _as_not_root(msacat_at, monkeypatch, closed_home, "doctor", "--json")
    checks = json.loads(found.out)["checks"]
    (fault,) = [check for check in checks if check["name"] == "private server"]
    assert fault["state"] == "fault" and "account" in fault["found"] and "MSACAT_HOME" in fault["mend"]
