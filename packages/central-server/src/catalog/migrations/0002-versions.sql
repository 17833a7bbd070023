-- What stood in which run. A row is a version of a path: it stands in the runs of its generation from first_run on, up to
-- but not including end_run. A generation begins with a full run and is known by that run's id; the incremental runs that
-- follow add rows for what changed only. Rows of a run that has not ended well are invisible, and removed by the next.

ALTER TABLE runs ADD COLUMN generation INTEGER;
-- 1: stays, whatever retention says
ALTER TABLE runs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;

-- when retention removed it; the row and the archive stay while the rest of the generation needs them
ALTER TABLE runs ADD COLUMN removed_at_ms INTEGER;
-- bytes of content that the archive holds: what its run packed, until it is packed anew
ALTER TABLE runs ADD COLUMN stored_bytes INTEGER NOT NULL DEFAULT 0;

-- An archive that is being replaced by one with less in it, and with what is needed of those before it. If the file is the
-- new one, only what this row says is left to do.
CREATE TABLE repacks (
  run_id        INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
  digest        BLOB NOT NULL CHECK (length(digest) = 32),
  archive_bytes INTEGER NOT NULL,
  stored_bytes  INTEGER NOT NULL,
  -- JSON: [[run, archive], ...] that go
  absorbed      TEXT NOT NULL
) STRICT;

-- Why an archive is not packed anew, so that it is not read again to find the same.
CREATE TABLE repack_refusals (
  run_id INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
  -- what was looked at: if it is not the same any more, it is tried again
  state  TEXT NOT NULL,
  at_ms  INTEGER NOT NULL,
  reason TEXT NOT NULL
) STRICT;

CREATE TABLE owners (
  id         INTEGER PRIMARY KEY,
  user_name  BLOB NOT NULL,
  group_name BLOB NOT NULL,
  UNIQUE (user_name, group_name)
) STRICT;

-- Without foreign keys: with them, to remove one run would be to search all versions.
CREATE TABLE versions (
  generation      INTEGER NOT NULL,
  -- bytes of the path with NUL for '/': memcmp is the order of a depth-first walk
  path            BLOB NOT NULL,
  first_run       INTEGER NOT NULL,
  -- NULL: still stands in the newest run of the generation
  end_run         INTEGER,
  -- why it ended; 0: deleted, 1: no longer selected; NULL: another version took its place, or it still stands
  end_reason      INTEGER,
  -- 0 file, 1 directory, 2 symlink, 3 hardlink, 4 fifo, 5 socket, 6 character device, 7 block device
  type            INTEGER NOT NULL,
  mode            INTEGER NOT NULL,
  uid             INTEGER NOT NULL,
  gid             INTEGER NOT NULL,
  owner_id        INTEGER NOT NULL,
  size            INTEGER NOT NULL,
  mtime_s         INTEGER NOT NULL,
  mtime_ns        INTEGER NOT NULL,
  ctime_s         INTEGER NOT NULL,
  ctime_ns        INTEGER NOT NULL,
  -- decimal text where it has more than 53 bits
  ino             ANY NOT NULL,
  dev             ANY NOT NULL,
  nlink           INTEGER NOT NULL,
  target          BLOB,
  device_major    INTEGER,
  device_minor    INTEGER,
  -- JSON: [[name, value in base64], ...]
  xattrs          TEXT,
  -- inode flags, as the index has them; NULL where they are not known
  flags           INTEGER,
  project         INTEGER NOT NULL,
  digest          BLOB,
  -- the run whose archive has the content, and where its tar stream has it
  content_run     INTEGER,
  content_offset  INTEGER,
  -- bytes there of a sparse file, map and data; NULL where it is size
  stored_size     INTEGER,
  -- JSON where the content is in several pieces: [[run, offset, length], ...]
  content_pieces  TEXT,
  -- 1: changed while it was read; 2: an ancestor of what was selected; 4: a mount point
  marks           INTEGER NOT NULL,
  PRIMARY KEY (generation, path, first_run)
) STRICT, WITHOUT ROWID;

-- A command may look at the rows of one host only: how many they are tells it that none is missing.
ALTER TABLE hosts ADD COLUMN run_count INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_by_generation ON runs (generation);

-- What the archives do not tell stands in rows that carry a checksum: `row_checksum` is a function of this program. Nothing
-- is written over a row that is not what was written before.

ALTER TABLE hosts ADD COLUMN checksum BLOB;
ALTER TABLE runs ADD COLUMN checksum BLOB;
ALTER TABLE repacks ADD COLUMN checksum BLOB;
ALTER TABLE repack_refusals ADD COLUMN checksum BLOB;

CREATE TRIGGER hosts_inserted AFTER INSERT ON hosts BEGIN
  UPDATE hosts SET checksum = row_checksum(id, name, run_count) WHERE id = NEW.id;
END;

CREATE TRIGGER hosts_changing BEFORE UPDATE OF run_count ON hosts
  WHEN OLD.checksum IS NOT row_checksum(OLD.id, OLD.name, OLD.run_count) BEGIN
  SELECT RAISE(ABORT, 'the row of a host is not what was written');
END;

CREATE TRIGGER hosts_changed AFTER UPDATE OF run_count ON hosts BEGIN
  UPDATE hosts SET checksum = row_checksum(id, name, run_count) WHERE id = NEW.id;
END;

CREATE TRIGGER runs_inserted AFTER INSERT ON runs BEGIN
  UPDATE hosts SET run_count = run_count + 1 WHERE id = NEW.host_id;
  UPDATE runs SET checksum = row_checksum(id, host_id, kind, generation, outcome, lease_token, started_at_ms, finished_at_ms, error_code,
    error_message, archive, digest, content_bytes, archive_bytes, stored_bytes, broken, counts,
    warning_count, warnings, pinned, removed_at_ms) WHERE id = NEW.id;
END;

CREATE TRIGGER runs_deleted AFTER DELETE ON runs BEGIN
  UPDATE hosts SET run_count = run_count - 1 WHERE id = OLD.host_id;
END;

CREATE TRIGGER runs_changing BEFORE UPDATE OF host_id, kind, generation, outcome, lease_token, started_at_ms, finished_at_ms, error_code, error_message, archive, digest,
    content_bytes, archive_bytes, stored_bytes, broken, counts, warning_count, warnings, pinned, removed_at_ms ON runs
  WHEN OLD.checksum IS NOT row_checksum(OLD.id, OLD.host_id, OLD.kind, OLD.generation, OLD.outcome, OLD.lease_token, OLD.started_at_ms,
    OLD.finished_at_ms, OLD.error_code, OLD.error_message, OLD.archive, OLD.digest, OLD.content_bytes,
    OLD.archive_bytes, OLD.stored_bytes, OLD.broken, OLD.counts, OLD.warning_count, OLD.warnings,
    OLD.pinned, OLD.removed_at_ms) BEGIN
  SELECT RAISE(ABORT, 'the row of a run is not what was written');
END;

CREATE TRIGGER runs_changed AFTER UPDATE OF host_id, kind, generation, outcome, lease_token, started_at_ms, finished_at_ms, error_code, error_message, archive, digest,
    content_bytes, archive_bytes, stored_bytes, broken, counts, warning_count, warnings, pinned, removed_at_ms ON runs BEGIN
  UPDATE runs SET checksum = row_checksum(id, host_id, kind, generation, outcome, lease_token, started_at_ms, finished_at_ms, error_code,
    error_message, archive, digest, content_bytes, archive_bytes, stored_bytes, broken, counts,
    warning_count, warnings, pinned, removed_at_ms) WHERE id = NEW.id;
END;

CREATE TRIGGER repacks_inserted AFTER INSERT ON repacks BEGIN
  UPDATE repacks SET checksum = row_checksum(run_id, digest, archive_bytes, stored_bytes, absorbed) WHERE run_id = NEW.run_id;
END;

CREATE TRIGGER repack_refusals_inserted AFTER INSERT ON repack_refusals BEGIN
  UPDATE repack_refusals SET checksum = row_checksum(run_id, state, at_ms, reason) WHERE run_id = NEW.run_id;
END;

CREATE TRIGGER repack_refusals_changed AFTER UPDATE OF state, at_ms, reason ON repack_refusals BEGIN
  UPDATE repack_refusals SET checksum = row_checksum(run_id, state, at_ms, reason) WHERE run_id = NEW.run_id;
END;

-- Rows that are not what was written.
CREATE VIEW damaged_rows (row) AS
  SELECT 'host ' || id FROM hosts WHERE checksum IS NOT row_checksum(id, name, run_count)
  UNION ALL
  SELECT 'run ' || id FROM runs WHERE host_id NOT IN (SELECT id FROM hosts) OR checksum IS NOT row_checksum(
    id, host_id, kind, generation, outcome, lease_token, started_at_ms, finished_at_ms, error_code,
    error_message, archive, digest, content_bytes, archive_bytes, stored_bytes, broken, counts,
    warning_count, warnings, pinned, removed_at_ms)
  UNION ALL
  SELECT 'the repack of run ' || run_id FROM repacks
    WHERE checksum IS NOT row_checksum(run_id, digest, archive_bytes, stored_bytes, absorbed)
  UNION ALL
  SELECT 'the refusal of run ' || run_id FROM repack_refusals WHERE checksum IS NOT row_checksum(run_id, state, at_ms, reason)
  UNION ALL
  SELECT 'the number of runs of host ' || id FROM hosts WHERE run_count <> (SELECT COUNT(*) FROM runs WHERE host_id = hosts.id);
