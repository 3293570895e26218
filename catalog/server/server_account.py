"""The account a private server runs as, and programs run in its name: PostgreSQL refuses root."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from msacat.catalog.errors import StoreUnavailable

ROOTS_SERVER_ACCOUNT = "postgres"


def server_account(data_folder: Path) -> pwd.struct_passwd:
    """The caller; for root the owner of the data, or `postgres` before there are any."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    if data_folder.exists() and (owner := data_folder.stat().st_uid) != 0:
        return pwd.getpwuid(owner)
    try:
        return pwd.getpwnam(ROOTS_SERVER_ACCOUNT)
    except KeyError:
        raise StoreUnavailable(
            f"PostgreSQL does not run as root, and this machine has no account {ROOTS_SERVER_ACCOUNT!r}.",
            next_step=f"useradd --system --no-create-home {ROOTS_SERVER_ACCOUNT}",
        ) from None


def account_name(uid: int) -> str:
    """The account's name, or its number where this machine knows no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def run_as(
    account: pwd.struct_passwd, programs: Path, *command: str | Path, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command, looked for in `programs` first, as `account`, with `given` on its standard input.

    Its output and errors come back as one text. The environment is bare: PGDATA, PGPORT and their kin would
    redirect initdb and pg_ctl.
    """
    drop: dict[str, Any] = {}
    if os.geteuid() == 0:
        drop = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return subprocess.run(
        [str(part) for part in command],
        env={"PATH": f"{programs}:/usr/bin:/bin", "LC_ALL": "C", "HOME": account.pw_dir},
        cwd="/", umask=0o077, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **drop,
    )  # fmt: skip


def give_to(account: pwd.struct_passwd, path: Path) -> None:
    """Make `account` the owner of `path`, if root calls; a link itself, never what it points to."""
    if os.geteuid() == 0:
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
