-- Who may do what with the shared log. Once, as an administrator of the server, in the log's database:
--
--     python -m connectors.eventlog.postgres_tables > tables.sql     (with the product installed)
--     psql -d jidoka -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--
-- It reads tables.sql from the folder in which psql runs. Afterwards give each process a user of its own:
--
--     CREATE ROLE line1 LOGIN IN ROLE jidoka_writer;     \password line1
--     CREATE ROLE auditor LOGIN IN ROLE jidoka_reader;   \password auditor
--
-- The owner cannot log in: nobody who can log in, but an administrator, can drop a trigger or a table.

CREATE ROLE jidoka_owner NOLOGIN;
CREATE ROLE jidoka_writer NOLOGIN;
CREATE ROLE jidoka_reader NOLOGIN;

SELECT format('GRANT CREATE ON DATABASE %I TO jidoka_owner', current_database()) \gexec
SET ROLE jidoka_owner;
\i tables.sql

-- SELECT ... FOR UPDATE, by which the log's end is locked, needs a right to UPDATE; triggers keep it from going back.
GRANT USAGE ON SCHEMA jidoka TO jidoka_writer, jidoka_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA jidoka TO jidoka_writer;
GRANT INSERT ON jidoka.events, jidoka.subjects, jidoka.writers, jidoka.blobs TO jidoka_writer;
GRANT INSERT, UPDATE ON jidoka.cells, jidoka.positions, jidoka.heads, jidoka.states TO jidoka_writer;
GRANT UPDATE (position, chain, recorded_at) ON jidoka.log TO jidoka_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA jidoka TO jidoka_reader;
GRANT EXECUTE ON FUNCTION jidoka.end_standstill TO jidoka_writer;
RESET ROLE;
-- For that function alone: a writer may end another one that stands still with the log's end locked.
GRANT pg_read_all_stats, pg_signal_backend TO jidoka_owner;
SELECT format('REVOKE CREATE ON DATABASE %I FROM jidoka_owner', current_database()) \gexec
