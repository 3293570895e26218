"""What the machine can do at best, measured in seconds: the limits that the stages are held against."""

from __future__ import annotations

import gzip
import os
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gunzip import pieces

MB = 1_000_000


def limits(folder: Path, mb: int = 512) -> dict[str, float]:
    """Rates by name: memory and socket MB/s, disk MB/s (written and synced), inflate MB/s of text, float32 GFLOP/s.

    mb : how much each moves
    """
    return {
        "memory_copy_mb_s": _memory(mb),
        "disk_write_mb_s": _disk(folder, mb),
        "socket_mb_s": _socket(mb),
        "inflate_mb_s": _inflate(folder, max(1, mb // 12)),
        "matmul_gflop_s": _matmul(torch.float32),
        "matmul_bf16_gflop_s": _matmul(torch.bfloat16),
    }


def _best(work: Callable[[], object], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _memory(mb: int) -> float:
    source = np.ones(mb * MB // 8)
    target = np.zeros_like(source)
    return mb / _best(lambda: np.copyto(target, source))


def _disk(folder: Path, mb: int) -> float:
    data = os.urandom(MB)

    def write() -> None:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            for _ in range(mb):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())

    return mb / _best(write)


def _socket(mb: int) -> float:
    """A Unix socket, 1 MB at a time, one thread at each end."""
    data = bytes(MB)

    def through() -> None:
        a, b = socket.socketpair()

        def send() -> None:
            with a:
                for _ in range(mb):
                    a.sendall(data)

        thread = threading.Thread(target=send)
        thread.start()
        buffer = bytearray(MB)
        with b:
            while b.recv_into(buffer):
                pass
        thread.join()

    return mb / _best(through)


def _inflate(folder: Path, mb: int) -> float:
    rng = np.random.default_rng(0)
    text = ",".join(map(repr, rng.normal(size=mb * MB // 20))).encode()
    path = folder / "inflate.gz"
    path.write_bytes(gzip.compress(text, 6))
    return len(text) / MB / _best(lambda: deque(pieces(path), maxlen=0))


def _matmul(kind: torch.dtype, n: int = 2048) -> float:
    a = torch.ones(n, n, dtype=kind)
    return 2 * n**3 / 1e9 / _best(lambda: a @ a)
