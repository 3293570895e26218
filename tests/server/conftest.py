"""An initialised private server to copy: initdb takes most of a test's time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from msacat.catalog.server.private_server import PrivateServer

FAST = {"fsync": "off", "shared_buffers": "64MB", "max_wal_size": "256MB"}


@pytest.fixture(scope="session")
def copy_initialised(short_folder: Path) -> Callable[[Path], PrivateServer]:
    """`copy_initialised(folder)`: a stopped private server in `folder`, with its owner and modes."""
    original = PrivateServer(short_folder / "initialised", settings=FAST)
    original.initialise()

    def copy(folder: Path) -> PrivateServer:
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", original.folder, folder], check=True)
        return PrivateServer(folder, settings=FAST)

    return copy
