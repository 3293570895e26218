"""msacat doctor's findings: each real fault is found, and the command it names mends it."""

import os
import uuid
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from msacat import migrations
from msacat.catalog.errors import StoreUnavailable
from msacat.catalog.server import check_machine
from msacat.catalog.server.check_machine import Check, check_disk, check_home, check_packages
from msacat.catalog.server.check_server import SCHEMAS, check_all, exit_code
from msacat.catalog.server.connect import engine, private_server
from msacat.catalog.server.upgrade_store import upgrade_store


def faults(dsn: str | None) -> dict[str, Check]:
    return {check.name: check for check in check_all(dsn) if check.state == "fault"}


@pytest.fixture
def bare(server):
    """DSN of an empty database, without Q3C and without a store."""
    name = f"bare_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield server.dsn_of(name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def plain_role(server):
    """A role without any right of its own."""
    name = f"astronomer_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        yield name
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def run_mend(mend: str, dsn: str) -> None:
    """Run the psql command in a mend, as the superuser of `dsn`."""
    query = mend.split(" -c '", 1)[1].rstrip("'")
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(query)


def test_a_good_store_has_no_fault(store):
    checks = check_all(store)
    assert [check for check in checks if check.state == "fault"] == []
    assert exit_code(checks) == 0
    assert {"server", "q3c", "schema", "python packages", "disk", "home folder"} <= {
        check.name for check in checks
    }


def test_an_empty_database_needs_only_upgrade(bare):
    found = faults(bare)
    assert set(found) == {"q3c", "schema"}
    assert found["q3c"].mend == found["schema"].mend == "msacat db upgrade"
    assert exit_code(list(found.values())) == 3
    assert upgrade_store(bare) == (None, migrations.head_revision())
    assert upgrade_store(bare) == (migrations.head_revision(), migrations.head_revision())
    assert faults(bare) == {}


def test_a_plain_role_is_given_each_right_by_the_command_named(bare, plain_role):
    """From nothing to a working store with a role that is never superuser."""
    admin_dsn, dsn = bare, make_conninfo(bare, user=plain_role)
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(
            sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(admin.info.dbname))
        )
    with pytest.raises(StoreUnavailable, match="Only a superuser can add Q3C") as caught:
        upgrade_store(dsn)
    found = faults(dsn)
    assert set(found) == {"q3c", "schema", "right to make schemas", "right to temporary tables"}
    assert found["q3c"].mend.startswith("as a superuser: psql")
    run_mend(caught.value.next_step, admin_dsn)
    with pytest.raises(StoreUnavailable, match="cannot upgrade the schema") as caught:
        upgrade_store(dsn)
    assert (
        f'GRANT CREATE ON DATABASE "{psycopg.conninfo.conninfo_to_dict(bare)["dbname"]}"'
        in caught.value.next_step
    )
    for name in ("right to make schemas", "right to temporary tables"):
        run_mend(found[name].mend, admin_dsn)
    upgrade_store(dsn)
    assert faults(dsn) == {}
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(plain_role)))


def test_another_roles_store(store, plain_role):
    """Schemas made by someone else: the right to make tables in them is missing, then granted."""
    dsn = make_conninfo(store, user=plain_role)
    with psycopg.connect(store, autocommit=True) as admin:
        admin.execute(
            sql.SQL(
                "GRANT USAGE ON SCHEMA msacat TO {0}; GRANT SELECT ON msacat.alembic_version TO {0}"
            ).format(sql.Identifier(plain_role))
        )
    found = faults(dsn)
    assert {"right to make tables", "right to make schemas", "right to write the store"} == set(found)
    assert "connect as" in found.pop("right to write the store").mend
    for check in found.values():
        run_mend(check.mend, store)
    assert set(faults(dsn)) == {"right to write the store"}, "it may make tables, and not write the ledgers"
    owner = f"owner_of_{plain_role}"
    with psycopg.connect(store, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(owner)))
        for schema in SCHEMAS:
            admin.execute(
                sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(schema), sql.Identifier(owner))
            )
    found = faults(dsn)
    assert {"owner of the store", "right to write the store"} == set(found)
    run_mend(found["owner of the store"].mend, store)
    run_mend(faults(dsn)["right to write the store"].mend, store)
    found = faults(dsn)
    assert set(found) == {"right to make schemas"}, "a member works as the owner, who needs this right too"
    run_mend(found["right to make schemas"].mend, store)
    assert faults(dsn) == {}
    with psycopg.connect(store, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(owner)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))
    with psycopg.connect(store, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(plain_role)))


def test_q3c_hidden_in_another_schema(store):
    with psycopg.connect(store, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA hidden")
        admin.execute("ALTER EXTENSION q3c SET SCHEMA hidden")
    check = faults(store)["q3c"]
    assert "'hidden'" in check.found
    run_mend(check.mend, store)
    assert faults(store) == {}


def test_older_store(store):
    migrations.downgrade(engine(store), "base")
    assert faults(store)["schema"].mend == "msacat db upgrade"


def test_encoding_is_checked(server):
    name = f"latin_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'LATIN1' TEMPLATE template0").format(sql.Identifier(name))
        )
        try:
            assert "--encoding=UTF8" in faults(server.dsn_of(name))["encoding"].mend
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_no_server_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("MSACAT_HOME", str(tmp_path))
    found = faults(None)
    assert found["server"].mend.startswith("msacat db start")
    assert exit_code(list(found.values())) == 3


def faulty_home(fault: str, short_folder: Path, home: Path, copy_initialised) -> Path:
    """A home folder whose private server cannot start, for one reason."""
    if fault == "long path":
        return home / ("x" * 100)
    if fault == "closed folder":
        home.mkdir(mode=0o700)
        return home / "home"
    server = copy_initialised(home / "server")
    if fault == "other major":
        (server.data_folder / "PG_VERSION").write_text("9\n")
    if fault == "pid taken":
        (server.data_folder / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data_folder}\n")
    return home


@pytest.mark.parametrize(
    ("fault", "found", "mend"),
    [
        ("long path", "too long for the operating system", "export MSACAT_HOME="),
        ("closed folder", "may not enter this folder", "chmod a+x"),
        ("other major", "another major version", "apt-get install postgresql-9 postgresql-9-q3c"),
        ("pid taken", "now belongs to another program", "rm "),
    ],
)
def test_what_keeps_the_private_server_from_starting(
    short_folder, copy_initialised, monkeypatch, fault, found, mend
):
    if fault == "closed folder" and os.geteuid() != 0:
        pytest.skip("only root's server runs as another account")
    home = faulty_home(fault, short_folder, short_folder / uuid.uuid4().hex[:8], copy_initialised)
    monkeypatch.setenv("MSACAT_HOME", str(home))
    check = faults(None)["private server"]
    assert found in check.found and mend in check.mend and check.concerns_server
    with pytest.raises(StoreUnavailable) as caught:
        private_server().initialise()
        private_server().start()
    assert caught.value.next_step == check.mend, "what start says, before it is tried"


def test_packages_missing_or_too_old_are_named_with_the_pip_command(monkeypatch):
    assert check_packages().state == "ok"
    monkeypatch.setattr(
        check_machine, "requires", lambda name: ["numpy>=999", "no-such-package-of-msacat", "pytest"]
    )
    check = check_packages()
    assert check.state == "fault"
    assert check.mend.endswith("-m pip install 'numpy>=999' no-such-package-of-msacat")


def test_disk_limits(tmp_path, monkeypatch):
    assert check_disk("disk", tmp_path / "not" / "yet").state in ("ok", "warning")
    monkeypatch.setattr(check_machine, "LEAST_FREE_BYTES", 2**62)
    monkeypatch.setattr(check_machine, "COMFORTABLE_FREE_BYTES", 2**63)
    assert check_disk("disk", tmp_path).state == "fault"


def test_a_home_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("MSACAT_HOME", "/proc/msacat")
    if os.access("/proc", os.W_OK):
        monkeypatch.setattr(
            os, "access", lambda path, mode: path != Path("/proc")
        )  # root may write everywhere
    check = check_home()
    assert check.state == "fault"
    assert "MSACAT_HOME" in check.mend


def test_exit_codes():
    fault = Check("disk", "fault", "")
    assert exit_code([Check("disk", "warning", "")]) == 0
    assert exit_code([fault]) == 1
    assert exit_code([fault, Check("server", "fault", "", None, True)]) == 3
