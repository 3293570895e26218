"""Writes as the role that owns the store, so that everything in it has one owner.

A view reads with its owner's rights: matched.stars cannot show a table that another role made.
"""

from __future__ import annotations

import psycopg


def act_as_owner(conn: psycopg.Connection) -> None:
    """SET ROLE to the owner of schema msacat, where there is one and the connected role may."""
    # PostgreSQL 16 tells a member that may SET ROLE from one that may not.
    may = "SET" if conn.info.server_version >= 160000 else "MEMBER"
    conn.execute(
        "SELECT set_config('role', o.rolname, false) FROM pg_namespace AS n JOIN pg_roles AS o ON o.oid = n.nspowner "
        "WHERE n.nspname = 'msacat' AND o.rolname <> current_user AND pg_has_role(o.oid, %s)",
        [may],
    )
