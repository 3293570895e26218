"""The built wheel works outside the checkout: specs, operators, migrations, star library are inside."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
USE_IT = """
import sys
sys.path.insert(0, sys.argv[1])
import msacat, numpy as np
assert msacat.__file__.startswith(sys.argv[1]), msacat.__file__
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.xp.xp_operators import band_keys, synthetic_row
from msacat.catalog.simulated_sky.simulate_sky import simulate
from msacat import migrations
from msacat.cli.main import main
from pathlib import Path
assert len(builtin_specs()) >= 15 and builtin_specs()["gaia_source"].role == "reference"
assert np.isfinite(synthetic_row(band_keys()[0])[0]).all()
assert migrations.head_revision() and Path(migrations.__file__).is_relative_to(sys.argv[1])
sky = simulate(Path(sys.argv[2]) / "sky", 300, 1)
assert sky.rows["gaia_source"] == 300
for arguments in (["db", "upgrade"], ["ingest", "gaia_source", str(sky.folder / "gaia_source")], ["status"]):
    assert main([*arguments, "--dsn", sys.argv[3]]) == 0, arguments
sys.exit(main(["--version"]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # a copy of what git tracks: a stale build/ folder or an untracked file must not get in
    source = out / "source"
    source.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPOSITORY / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(out), str(source)]
    subprocess.run(command, check=True, cwd=out)
    return next(out.glob("msacat-*.whl"))


def test_wheel_holds_package_and_data_only(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2 and "msacat" in tops  # nothing installs a global package called model or cli
    for needed in (
        "msacat/catalog/surveys/gaia_source.toml", "msacat/catalog/xp/xp_operators.npz",
        "msacat/catalog/simulated_sky/parameters.toml", "msacat/migrations/versions/0001_store.py",
    ):  # fmt: skip
        assert needed in names
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    modules = [
        n for n in tracked.splitlines() if n.split("/")[0] in ("catalog", "model", "cli", "migrations")
    ]
    missing = [
        n for n in modules if n.endswith((".py", ".toml", ".npz", ".json")) and f"msacat/{n}" not in names
    ]
    assert missing == []


def test_wheel_works_outside_the_checkout(wheel, server, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    dsn = server.create_database("of_the_wheel")
    done = subprocess.run(
        [sys.executable, "-c", USE_IT, str(site), str(tmp_path), dsn],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "next: msacat" in done.stdout and done.stdout.splitlines()[-1].startswith("msacat ")
