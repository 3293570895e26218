"""Install torch: where there is no NVIDIA GPU, a CPU build if pip finds one, else say how large the download is.

From PyPI, torch brings some 3 GB of CUDA libraries. Run by `make setup` with the virtual environment's Python.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of builds without CUDA."""


def main() -> int:
    if _pip("show", "--quiet", "torch").returncode == 0:
        return 0
    options: list[str] = []
    if shutil.which("nvidia-smi") is None:
        wanted = _would_install()
        if _brings_cuda(wanted):
            if _would_install("--no-deps", "--index-url", CPU_INDEX, "--timeout", "10", "--retries", "0"):
                _say(f"No NVIDIA GPU here: torch's CPU build from {CPU_INDEX}.")
                options = ["--no-deps", "--index-url", CPU_INDEX]
            else:
                _say(
                    f"No NVIDIA GPU here, but pip finds no CPU build of torch: it downloads {_size(wanted)} "
                    f"({len(wanted)} packages, CUDA libraries included)."
                )
    if not sys.stdout.isatty():  # a person watching gigabytes come in sees pip's progress bars
        options.append("--quiet")
    return _pip("install", *options, "--constraint", str(CONSTRAINTS), "torch", shown=True).returncode


def _would_install(*options: str) -> list[dict[str, Any]]:
    """What pip would install for torch: its report's entries, empty where pip finds no solution."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            "install",
            "--quiet",
            "--dry-run",
            "--report",
            str(report),
            "--constraint",
            str(CONSTRAINTS),
        ]
        if _pip(*command, *options, "torch").returncode:
            return []
        return json.loads(report.read_text())["install"]


def _brings_cuda(packages: list[dict[str, Any]]) -> bool:
    return any(package["metadata"]["name"].lower().startswith(("nvidia-", "cuda-")) for package in packages)


def _size(packages: list[dict[str, Any]]) -> str:
    """Sum of the files' sizes as the index's server states them."""
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(_content_length, (package["download_info"]["url"] for package in packages)))
    known = sum(size for size in sizes if size is not None)
    return f"{'' if None not in sizes else 'at least '}{known / 1e9:.1f} GB" if known else "about 3 GB"


def _content_length(url: str) -> int | None:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return None  # only the announcement loses: the sum is then called a lower bound


def _pip(*arguments: str, shown: bool = False) -> subprocess.CompletedProcess[bytes]:
    stream = None if shown else subprocess.DEVNULL
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments], stdout=stream, stderr=stream, check=False
    )


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
