"""The private server's configuration, sized to the machine it runs on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MIB = 2**20


def machine_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its control group's if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit_file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if Path(limit_file).exists():
            limit = Path(limit_file).read_text().strip()
            if limit.isdigit():
                total = min(total, int(limit))
    return total


def server_settings() -> dict[str, str]:
    """postgresql.conf settings of the private server.

    The memory shares leave most of the machine to the program that trains. Durability stays PostgreSQL's own
    (fsync and synchronous_commit on): a committed file survives a power cut. Nothing listens on TCP.
    """
    memory = machine_memory()

    def share(divisor: int, least: int, most: int) -> str:
        return f"{min(max(memory // divisor // MIB, least), most)}MB"

    return {
        "listen_addresses": "''",
        "unix_socket_permissions": "0700",
        "shared_buffers": share(6, 128, 8192),
        "effective_cache_size": share(2, 256, 1_000_000),
        "work_mem": share(96, 16, 256),
        "maintenance_work_mem": share(24, 64, 1024),
        "max_wal_size": "4GB",
        # No replicas: a table made and filled in one transaction then needs no write-ahead log.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "checkpoint_timeout": "15min",
        # Q3C's cost estimates are absurdly high; jit would fire on every cone search.
        "jit": "off",
        "random_page_cost": "1.1",
        "max_locks_per_transaction": "256",
        # A job whose client died stops, and frees its lock, within this time.
        "client_connection_check_interval": "10s",
        "dynamic_shared_memory_type": "posix" if _roomy_shared_memory() else "mmap",
        "log_line_prefix": "'%m [%p] %a '",
        "log_checkpoints": "off",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
    }


def _roomy_shared_memory() -> bool:
    """Containers often get a 64 MB /dev/shm, in which parallel hash joins fail for want of space."""
    return os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").total >= 1024 * MIB
