-- Hosts, their runs, and who is at work on which host.

CREATE TABLE hosts (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE runs (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  host_id        INTEGER NOT NULL REFERENCES hosts (id),
  kind           TEXT NOT NULL CHECK (kind IN ('full', 'incremental')),
  -- NULL while the run is at work
  outcome        TEXT CHECK (outcome IN ('complete', 'complete-with-changes', 'incomplete', 'failed')),
  -- token of the lease under which the run is at work
  lease_token    TEXT NOT NULL,
  started_at_ms  INTEGER NOT NULL,
  finished_at_ms INTEGER,
  error_code     TEXT,
  error_message  TEXT,
  -- file name below archives/HOST/; NULL where nothing was kept
  archive        TEXT,
  -- SHA-256 of the archive file
  digest         BLOB CHECK (digest IS NULL OR length(digest) = 32),
  content_bytes  INTEGER NOT NULL DEFAULT 0,
  archive_bytes  INTEGER NOT NULL DEFAULT 0,
  -- 1: broken off; the archive has the beginning of what was selected
  broken         INTEGER NOT NULL DEFAULT 0,
  -- JSON object: what was counted, by name
  counts         TEXT NOT NULL DEFAULT '{}',
  warning_count  INTEGER NOT NULL DEFAULT 0,
  -- JSON list: the first of the warnings
  warnings       TEXT NOT NULL DEFAULT '[]',
  CHECK ((outcome IS NULL) = (finished_at_ms IS NULL)),
  CHECK ((archive IS NULL) = (digest IS NULL)),
  UNIQUE (host_id, archive)
) STRICT;

CREATE INDEX runs_by_host ON runs (host_id, started_at_ms);
CREATE INDEX runs_at_work ON runs (lease_token) WHERE outcome IS NULL;

CREATE TABLE leases (
  host_id         INTEGER PRIMARY KEY REFERENCES hosts (id),
  token           TEXT NOT NULL UNIQUE,
  machine         TEXT NOT NULL,
  boot_id         TEXT NOT NULL,
  pid_namespace   TEXT NOT NULL,
  pid             INTEGER NOT NULL,
  -- clock ticks between boot and start of the process, from /proc
  process_start   TEXT NOT NULL,
  acquired_at_ms  INTEGER NOT NULL,
  heartbeat_at_ms INTEGER NOT NULL
) STRICT;

-- Processes that read archives of a host: as long as one is there, nothing is removed or replaced.
CREATE TABLE readers (
  token           TEXT NOT NULL,
  host_id         INTEGER NOT NULL REFERENCES hosts (id),
  machine         TEXT NOT NULL,
  boot_id         TEXT NOT NULL,
  pid_namespace   TEXT NOT NULL,
  pid             INTEGER NOT NULL,
  process_start   TEXT NOT NULL,
  acquired_at_ms  INTEGER NOT NULL,
  heartbeat_at_ms INTEGER NOT NULL,
  PRIMARY KEY (host_id, token)
) STRICT, WITHOUT ROWID;
