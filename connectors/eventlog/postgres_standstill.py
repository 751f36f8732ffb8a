"""Ending the transaction of a node that stands still while it holds the log's end.

The server ends a transaction that idles, but one whose client stopped between its statements and the word that they
were all (a Sync of the protocol) is busy to it, for as long as the connection lasts: PostgreSQL before 17 has no bound
for that. So whoever waited for the lock in vain asks the server to end it, by a function of the log's schema that looks
for just this case. What is ended was not committed; its node, should it go on, finds its connection lost and asks.
"""

from __future__ import annotations

import logging
from typing import Final

import psycopg

from connectors.eventlog.postgres_connect import SCHEMA, Database, name_of
from schemas.settings import PostgresSettings

LOG = logging.getLogger("jidoka.eventlog")

FUNCTION: Final = f"""\
-- Ends who has locked the log's end and has not said for so many seconds what is next. Returns who that was.
CREATE FUNCTION end_standstill(bound_s double precision) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    standing record;
BEGIN
    FOR standing IN
        SELECT a.pid, a.usename, a.client_addr
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.relation = '{SCHEMA}.log'::regclass AND l.mode = 'RowShareLock' AND l.granted
            AND a.datname = current_database() AND a.state = 'active' AND a.wait_event_type = 'Client'
            AND a.query_start < clock_timestamp() - make_interval(secs => greatest(bound_s, 1))
    LOOP
        PERFORM pg_terminate_backend(standing.pid);
        RETURN NEXT format('%s at %s', standing.usename, coalesce(host(standing.client_addr), 'its socket'));
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION end_standstill FROM PUBLIC;
"""


def end_standstill(db: Database, settings: PostgresSettings) -> list[str]:
    """End who has stood still with the log's end locked for longer than `timeout_s`; return who that was.

    A server that does not let us (tables made before there was this function, a right that is missing) is left alone:
    then the wait goes on as before, and the process log says why.
    """
    try:
        ended = [str(row[0]) for row in db.execute("SELECT end_standstill(%s)", (settings.timeout_s,)).fetchall()]
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege) as error:
        LOG.warning("%s: who stands still cannot be ended: %s", name_of(settings), " ".join(str(error).split()))
        return []
    for who in ended:
        LOG.warning("%s: ended %s, who stood still with the log's end locked", name_of(settings), who)
    return ended
