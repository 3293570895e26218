"""A lock is held by one session, names its holder, and dies with it."""

import os
import subprocess
import sys
import threading

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from msacat.catalog.errors import StoreLocked
from msacat.catalog.server.connect import advisory_lock, connect


def test_second_session_is_refused_and_told_who_holds_it(store):
    with connect(store, application="msacat train") as first, connect(store) as second:
        with advisory_lock(first, "training"):
            with pytest.raises(StoreLocked, match="'training'") as caught, advisory_lock(second, "training"):
                pass
            assert f"msacat train (process {os.getpid()})" in caught.value.found
            assert f"server process {first.info.backend_pid}" in caught.value.found
            assert caught.value.exit_code == 4
            assert second.info.transaction_status == TransactionStatus.IDLE
            with advisory_lock(second, "another name"):
                pass
        with advisory_lock(second, "training"):
            pass


@pytest.mark.parametrize("autocommit", [True, False])
def test_it_spans_transactions_and_opens_none(store, autocommit):
    with connect(store, autocommit=autocommit) as holder, connect(store) as other:
        with advisory_lock(holder, "job"):
            assert holder.info.transaction_status == TransactionStatus.IDLE
            with holder.transaction():
                holder.execute("CREATE TABLE public.t (i int)")
            with pytest.raises(StoreLocked), advisory_lock(other, "job"):
                pass
        assert holder.info.transaction_status == TransactionStatus.IDLE


def test_a_failed_transaction_still_frees_it(store):
    with connect(store) as holder, connect(store) as other:
        with pytest.raises(psycopg.errors.UndefinedTable), advisory_lock(holder, "job"):
            holder.execute("SELECT * FROM no_such_table")
        with advisory_lock(other, "job"):
            pass


def test_waiting_says_for_whom_and_then_gets_it(store):
    order: list[str] = []
    told = threading.Event()

    def tell(words: str) -> None:
        order.append(words)
        told.set()

    def second() -> None:
        with connect(store) as conn, advisory_lock(conn, "job", wait=True, tell=tell):
            order.append("second")

    with connect(store, application="msacat enrich") as first:
        with advisory_lock(first, "job"):
            thread = threading.Thread(target=second)
            thread.start()
            assert told.wait(20)
            order.append("first")
        thread.join(20)
    assert "msacat enrich" in order[0]
    assert order[1:] == ["first", "second"]


@pytest.mark.crash
def test_a_killed_holder_frees_it(store):
    program = (
        "import sys, time\n"
        "from msacat.catalog.server.connect import advisory_lock, connect\n"
        "with connect(sys.argv[1]) as conn, advisory_lock(conn, 'job'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, store], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with connect(store) as conn:
        with pytest.raises(StoreLocked), advisory_lock(conn, "job"):
            pass
        holder.kill()
        holder.wait()
        with advisory_lock(conn, "job", wait=True):
            pass
    holder.stdout.close()


def test_each_database_has_its_own_locks(server, store):
    with (
        connect(store) as here,
        connect(server.dsn_of("postgres")) as elsewhere,
        advisory_lock(here, "job"),
        advisory_lock(elsewhere, "job"),
    ):
        pass


def test_a_session_that_was_ended_has_no_lock_to_give_back(store):
    """Whoever waits for the lock learns what happened inside it, not that the unlock failed."""
    with connect(store) as conn, pytest.raises(KeyError, match="what happened"), advisory_lock(conn, "mine"):
        with connect(store, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [conn.info.backend_pid])
        raise KeyError("what happened")
    with connect(store) as conn, advisory_lock(conn, "mine"):
        pass


def test_shared_by_many_or_held_by_one(store):
    with connect(store) as a, connect(store) as b, connect(store) as c:
        with (
            advisory_lock(a, "files", shared=True),
            advisory_lock(b, "files", shared=True),
            pytest.raises(StoreLocked),
            advisory_lock(c, "files"),
        ):
            pass
        with advisory_lock(c, "files"), pytest.raises(StoreLocked), advisory_lock(a, "files", shared=True):
            pass
