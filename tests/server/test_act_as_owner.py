"""One owner of everything in a store, whoever registers, ingests or upgrades."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import NamedTuple

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from msacat import migrations
from msacat.catalog.server.check_server import check_all
from msacat.catalog.server.connect import connect, engine
from msacat.catalog.server.upgrade_store import upgrade_store
from msacat.catalog.store.register_survey import register_survey
from msacat.catalog.surveys.load_specs import builtin_specs

SCHEMAS = "msacat, survey, matched, learned, enriched"


class Owned(NamedTuple):
    """DSNs of one store: of its owner, a member of the owner's role, a reader and a superuser."""

    owner: str
    member: str
    reader: str
    superuser: str


@pytest.fixture
def owned(server) -> Iterator[Owned]:
    mark = uuid.uuid4().hex[:8]
    name = f"owned_{mark}"
    roles = owner, member, reader = [f"{role}_{mark}" for role in ("owner", "member", "reader")]
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as admin:
        for role in roles:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), sql.Identifier(member)))
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner))
        )
        superuser = server.dsn_of(name)
        dsns = Owned(*(make_conninfo(superuser, user=role) for role in roles), superuser)
        with psycopg.connect(superuser) as conn:
            conn.execute("CREATE EXTENSION q3c")
        upgrade_store(dsns.owner)
        with psycopg.connect(dsns.owner) as conn:
            for words in (
                f"GRANT USAGE ON SCHEMA {SCHEMAS} TO {{}}",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMAS} TO {{}}",
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA {SCHEMAS} GRANT SELECT ON TABLES TO {{}}",
            ):
                conn.execute(sql.SQL(words).format(sql.Identifier(reader)))
        with connect(dsns.owner) as conn:
            register_survey(conn, builtin_specs()["gaia_source"])
        yield dsns
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for role in reversed(roles):
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def owner_faults(dsn: str) -> list:
    return [c for c in check_all(dsn) if c.name == "owner of the store" and c.state == "fault"]


@pytest.mark.parametrize("who", ["superuser", "member"])
def test_what_another_role_registers_can_be_read_by_all(owned, who):
    with connect(getattr(owned, who)) as conn:
        register_survey(conn, builtin_specs()["twomass_psc"])
    for dsn in owned:
        with connect(dsn, read_only=True) as conn:
            assert conn.execute("SELECT count(twomass_j) FROM matched.stars").fetchone() == (0,)
    assert owner_faults(owned.owner) == []


def test_what_a_superuser_upgrades_stays_the_owners(owned):
    migrations.downgrade(engine(owned.owner), "0001")
    upgrade_store(owned.superuser)
    assert owner_faults(owned.owner) == []


def test_tables_of_another_owner_are_found_and_given_back(owned):
    """As an older msacat left them."""
    with psycopg.connect(owned.superuser) as conn:
        register_survey(conn, builtin_specs()["twomass_psc"])
    with connect(owned.owner) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT count(*) FROM matched.stars")
    [check] = owner_faults(owned.owner)
    assert "survey.twomass_psc_removed" in check.mend, "statistics have an owner too"
    with psycopg.connect(owned.superuser) as conn:
        conn.execute(check.mend.split(" -c '", 1)[1].rstrip("'"))
    assert owner_faults(owned.owner) == []
    with connect(owned.reader, read_only=True) as conn:
        assert conn.execute("SELECT count(twomass_j) FROM matched.stars").fetchone() == (0,)
