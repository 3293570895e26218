"""The temporary store of `msacat evaluate` and the private server that it lies on."""

import contextlib
import shutil
import uuid

import psycopg
import pytest

from msacat.catalog.server.connect import LIBPQ_VARIABLES
from msacat.catalog.server.private_server import PrivateServer
from msacat.cli import evaluation_store
from msacat.cli.output import be_quiet


@pytest.fixture
def server(short_folder, monkeypatch):
    """The private server of a home of its own, not running."""
    home = short_folder / uuid.uuid4().hex[:8]
    monkeypatch.setenv("MSACAT_HOME", str(home))
    for name in ("MSACAT_DSN", *LIBPQ_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(evaluation_store, "_fill", lambda files, dsn: None)
    made, before = PrivateServer(home / "server"), be_quiet(False)  # whatever verb ran before in this process
    yield made
    be_quiet(before)
    made.stop(immediate=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("others", [False, True])
def test_the_server_is_stopped_again_unless_others_use_it(server, tmp_path, capsys, others):
    """One evaluation that began first and ended first took the server from under the other."""
    with contextlib.ExitStack() as stack:
        with evaluation_store.evaluation_store(tmp_path, None, "first"):
            assert server.status().state == "running"
            if others:
                second = psycopg.connect(server.dsn_of("postgres"), application_name="msacat evaluate")
                stack.enter_context(second)
        assert server.status().state == ("running" if others else "stopped")
        assert ("msacat db stop" in capsys.readouterr().err) == others
        if others:
            assert second.execute("SELECT 1").fetchone() == (1,)
