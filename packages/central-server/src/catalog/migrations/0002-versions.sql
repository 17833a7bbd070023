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
