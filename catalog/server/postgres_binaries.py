"""Find the PostgreSQL programs of this machine, newest major with Q3C first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from msacat.catalog.errors import StoreUnavailable

OLDEST_MAJOR = 14
"""Oldest PostgreSQL msacat works with (client_connection_check_interval, TID range scans)."""

DEBIAN_VERSIONS = Path("/usr/lib/postgresql")
NEEDED_PROGRAMS = ("initdb", "pg_ctl", "postgres")


@dataclass(frozen=True)
class PostgresBinaries:
    """One installed PostgreSQL: its folder of programs and its major version."""

    folder: Path
    major: int

    def has_q3c(self) -> bool:
        """True if the Q3C extension is installed for this PostgreSQL."""
        return (self._share_folder() / "extension" / "q3c.control").exists()

    def _share_folder(self) -> Path:
        answer = _first_line([self.folder / "pg_config", "--sharedir"])
        if answer:
            return Path(answer)
        return Path(f"/usr/share/postgresql/{self.major}")  # Debian splits pg_config off on some releases


def installed_binaries() -> list[PostgresBinaries]:
    """Every PostgreSQL server found under Debian's folder and by `pg_config` on the PATH, best first.

    Best: has Q3C, then the newest major. Versions older than `OLDEST_MAJOR` are left out.
    """
    folders = sorted(DEBIAN_VERSIONS.glob("*/bin"))
    if pg_config := shutil.which("pg_config"):
        folders.append(Path(_first_line([pg_config, "--bindir"]) or os.devnull))
    found: dict[Path, PostgresBinaries] = {}
    for folder in folders:
        if all((folder / program).exists() for program in NEEDED_PROGRAMS):
            major = _major_of(folder / "postgres")
            if major >= OLDEST_MAJOR:
                found.setdefault(folder.resolve(), PostgresBinaries(folder, major))
    return sorted(found.values(), key=lambda binaries: (not binaries.has_q3c(), -binaries.major))


def no_binaries() -> StoreUnavailable:
    """The error of a machine without a PostgreSQL server."""
    return StoreUnavailable(
        f"PostgreSQL {OLDEST_MAJOR} or newer is not installed on this machine.",
        next_step=f"{apt_install('postgresql-15', 'postgresql-15-q3c')}   (Debian 12; elsewhere the release's major)",
    )


def apt_install(*packages: str) -> str:
    """The exact command that installs Debian packages, with sudo for an ordinary user."""
    return f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install {' '.join(packages)}"


def _major_of(postgres: Path) -> int:
    match = re.search(r"\(PostgreSQL\) (\d+)", _first_line([postgres, "--version"]))
    return int(match.group(1)) if match else 0


def _first_line(command: list[str | Path]) -> str:
    """First line a program prints, or "" where it is missing or fails: the caller then looks elsewhere."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, cwd="/")
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().split("\n")[0]
