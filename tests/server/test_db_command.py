"""`msacat db` and `msacat doctor` as a user runs them: a private server from nothing to stopped."""

import json
import os
import shutil
import subprocess
import sys
import uuid

import psycopg
import pytest

from msacat.catalog.server.private_server import PrivateServer


@pytest.fixture
def home(short_folder):
    folder = short_folder / uuid.uuid4().hex[:8]
    yield folder
    PrivateServer(folder / "server").stop(immediate=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def msacat(home):
    """Run one command in this home; returns (exit code, stdout, stderr)."""

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        program = [
            sys.executable,
            "-c",
            "import sys; from msacat.cli.main import main; sys.exit(main())",
            *arguments,
        ]
        env = os.environ | {"MSACAT_HOME": str(home)} | variables
        done = subprocess.run(program, env=env, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    return run


def test_life_of_a_private_server(msacat, home):
    code, out, _ = msacat("doctor", "--json")
    (server,) = [check for check in json.loads(out)["checks"] if check["name"] == "server"]
    assert (code, server["state"]) == (3, "fault")
    assert server["mend"].startswith("msacat db start")

    code, out, words = msacat("db", "start")
    assert (code, out) == (0, ""), words
    assert "Making a private PostgreSQL" in words
    assert "msacat db stop" in words

    code, out, _ = msacat("db", "status", "--json")
    status = json.loads(out)
    assert (code, status["private"]["state"]) == (0, "running")
    assert status["used"]["schema_revision"]
    assert msacat("doctor")[0] == 0

    with psycopg.connect(status["private"]["dsn"], application_name="msacat train"):
        code, _, words = msacat("db", "stop")
        assert code == 4
        assert "msacat train" in words and "--force" in words
        assert msacat("db", "stop", "--force")[0] == 0

    code, out, _ = msacat("db", "status")
    assert code == 3
    assert "stopped" in out and "Next: msacat db start" in out
    code, _, words = msacat("db", "start", MSACAT_DSN="service=elsewhere")
    assert code == 0
    assert "MSACAT_DSN is set, so other commands use that server" in words


def test_upgrade_of_a_server_that_is_not_there(msacat, home):
    code, out, words = msacat("db", "upgrade", "--dsn", f"host={home} password=hunter2")
    assert (code, out) == (3, "")
    assert "cannot be reached" in words
    assert "hunter2" not in words
