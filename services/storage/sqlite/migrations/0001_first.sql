-- Names (measurements, fields, keys, ids of records) are BLOBs: UTF-8 with surrogate escapes undone, so any bytes survive.

-- One row: the last number given to a change or a commit.
CREATE TABLE sequence (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);
INSERT INTO sequence VALUES (1, 0);

-- hash_key: the key of the series hash.
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE records (
    kind BLOB NOT NULL, id BLOB NOT NULL,
    version INTEGER NOT NULL,  -- number of the change that wrote it
    body BLOB NOT NULL,        -- msgpack
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE record_keys (key BLOB PRIMARY KEY, kind BLOB NOT NULL, id BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX record_keys_of ON record_keys (kind, id);
CREATE TABLE record_indexes (
    kind BLOB NOT NULL, field BLOB NOT NULL, value BLOB NOT NULL, id BLOB NOT NULL,
    PRIMARY KEY (kind, field, value, id)
) WITHOUT ROWID;
CREATE INDEX record_indexes_of ON record_indexes (kind, id);

-- A dropped measurement keeps its row until its segments and dictionary have been deleted in slices.
CREATE TABLE measurements (
    id INTEGER PRIMARY KEY AUTOINCREMENT, bucket BLOB NOT NULL, name BLOB NOT NULL, dropped INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX measurements_living ON measurements (bucket, name) WHERE dropped = 0;

CREATE TABLE fields (
    measurement INTEGER NOT NULL, shard_start INTEGER NOT NULL, field BLOB NOT NULL, type INTEGER NOT NULL,
    PRIMARY KEY (measurement, shard_start, field)
) WITHOUT ROWID;

-- The series dictionary in pieces as they came: series first .. first + count - 1 of a measurement.
-- ids stand before the piece (which has them too), so that a start reads them without the keys' pages.
CREATE TABLE dictionary (
    measurement INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, checksum INTEGER NOT NULL,
    ids BLOB NOT NULL, piece BLOB NOT NULL
);
CREATE UNIQUE INDEX dictionary_places ON dictionary (measurement, first);

-- What each write was answered, for 15 minutes. An id begins with its time, so old rows are neighbours.
CREATE TABLE results (id BLOB PRIMARY KEY, result BLOB) WITHOUT ROWID;

-- A checksum is a CRC-32 over the numbers of its row that matter, and the blob behind it (sqlite/checksums.py).

-- Level 0: one row a commit. The directory stands before the data, so that a start reads it alone.
CREATE TABLE commits (
    number INTEGER PRIMARY KEY, size INTEGER NOT NULL, checksum INTEGER NOT NULL,
    directory BLOB NOT NULL, data BLOB NOT NULL
);

-- Compacted segments: one row, and one row a chunk.
CREATE TABLE segments (
    id INTEGER PRIMARY KEY, measurement INTEGER NOT NULL, level INTEGER NOT NULL, place INTEGER NOT NULL,
    size INTEGER NOT NULL, checksum INTEGER NOT NULL, meta BLOB NOT NULL
);
CREATE TABLE chunks (segment INTEGER NOT NULL, chunk INTEGER NOT NULL, bytes BLOB NOT NULL);
CREATE UNIQUE INDEX chunks_places ON chunks (segment, chunk);

-- Segments (of either kind) that are no longer planned with, and those that are damaged.
CREATE TABLE replaced (segment INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL);
CREATE TABLE quarantine (segment INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, reason TEXT NOT NULL);
