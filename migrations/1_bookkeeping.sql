-- What Backstay itself remembers inside a database whose migrations it runs. Only a real run makes
-- this; a plan or a dry run never does.
CREATE SCHEMA backstay;
COMMENT ON SCHEMA backstay IS 'bookkeeping of Backstay: who migrated what, statement by statement';

CREATE TABLE backstay.bookkeeping (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One line for each `migrate run` or `migrate down`.
CREATE TABLE backstay.runs (
    run text PRIMARY KEY,
    command text NOT NULL CHECK (command IN ('run', 'down')),
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The role, and the machine that Backstay ran on.
    role text NOT NULL DEFAULT session_user,
    host text NOT NULL,
    -- The snapshot that takes this run back.
    snapshot text
);

-- The text of every file that was run, so that a way back needs no old checkout.
CREATE TABLE backstay.scripts (
    checksum bytea PRIMARY KEY,
    file text NOT NULL,
    sql text NOT NULL
);

CREATE TABLE backstay.migrations (
    version bigint PRIMARY KEY,
    run text NOT NULL REFERENCES backstay.runs,
    up_checksum bytea NOT NULL REFERENCES backstay.scripts,
    down_checksum bytea REFERENCES backstay.scripts
);

-- The journal. Where PostgreSQL allows it a statement and its line commit together. The others write
-- `intent` before and `done` after: an intent alone means that nobody knows.
CREATE TABLE backstay.statements (
    run text NOT NULL REFERENCES backstay.runs,
    version bigint NOT NULL,
    direction text NOT NULL CHECK (direction IN ('up', 'down')),
    ordinal integer NOT NULL,
    line integer NOT NULL,
    -- SHA-256 of the statement's text.
    digest bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('intent', 'done')),
    nanoseconds bigint,
    PRIMARY KEY (run, version, direction, ordinal)
);
CREATE INDEX statements_unfinished ON backstay.statements (version) WHERE state = 'intent';

-- The schema as the newest run left it: what differs from it was changed by somebody else.
CREATE TABLE backstay.schema_objects (
    identity text PRIMARY KEY,
    definition text NOT NULL
);

INSERT INTO backstay.bookkeeping (version) VALUES (1);
