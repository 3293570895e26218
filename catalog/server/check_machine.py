"""Check what msacat needs of this machine: Python packages, PostgreSQL's programs, folders, disk."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from msacat.catalog.server.connect import home_folder
from msacat.catalog.server.postgres_binaries import apt_install, installed_binaries, no_binaries
from msacat.catalog.server.private_server import nearest_existing

GIB = 2**30
LEAST_FREE_BYTES = 1 * GIB
"""Below this a write-ahead log of usual size no longer fits and PostgreSQL stops."""
COMFORTABLE_FREE_BYTES = 10 * GIB


@dataclass(frozen=True)
class Check:
    """One finding. `state`: ok, warning or fault; `mend`: the exact command (or step) that mends it.

    `concerns_server`: a fault here means that the database cannot be used (exit code 3).
    """

    name: str
    state: str
    found: str
    mend: str | None = None
    concerns_server: bool = False


def check_machine() -> Iterator[Check]:
    """Findings about this machine, whichever server is used."""
    yield check_packages()
    yield check_home()
    yield check_disk("disk", home_folder())


def check_packages() -> Check:
    """The Python packages msacat depends on, in versions it works with."""
    wanted = [Requirement(line) for line in requires("msacat") or []]
    needed = [
        requirement for requirement in wanted if not requirement.marker or requirement.marker.evaluate()
    ]
    amiss = []
    for requirement in needed:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            amiss.append((requirement, "missing"))
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            amiss.append((requirement, installed))
    name = "python packages"
    if not amiss:
        return Check(name, "ok", f"{len(needed)} packages, Python {sys.version.split()[0]}")
    missing = ", ".join(f"{requirement} (found: {found})" for requirement, found in amiss)
    command = shlex.join(
        [sys.executable, "-m", "pip", "install", *(str(requirement) for requirement, _ in amiss)]
    )
    return Check(name, "fault", missing, command)


def check_programs() -> Iterator[Check]:
    """PostgreSQL's programs and Q3C, which only the private server needs on this machine."""
    installed = installed_binaries()
    if not installed:
        yield Check("postgresql programs", "fault", "none on this machine", no_binaries().next_step, True)
        return
    best = installed[0]
    yield Check("postgresql programs", "ok", f"PostgreSQL {best.major} in {best.folder}")
    if best.has_q3c():
        yield Check("q3c package", "ok", f"installed for PostgreSQL {best.major}")
    else:
        mend = apt_install(f"postgresql-{best.major}-q3c")
        yield Check("q3c package", "fault", f"missing for PostgreSQL {best.major}", mend, True)


def check_home() -> Check:
    """The folder for models and the private server can be written."""
    home = home_folder()
    nearest = nearest_existing(home)
    if os.access(nearest, os.W_OK | os.X_OK):
        return Check(
            "home folder", "ok", str(home) + ("" if nearest == home else " (made when first needed)")
        )
    mend = "export MSACAT_HOME=FOLDER   (one of yours, on a disk with room)"
    return Check("home folder", "fault", f"{nearest} may not be written by this user", mend)


def check_disk(name: str, folder: Path) -> Check:
    """Free space where `folder` is or will be."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    found = f"{free / GIB:.1f} GiB free at {folder}"
    if free >= COMFORTABLE_FREE_BYTES:
        return Check(name, "ok", found)
    mend = "free some space, or move to a larger disk: export MSACAT_HOME=FOLDER"
    return Check(name, "fault" if free < LEAST_FREE_BYTES else "warning", found, mend)
