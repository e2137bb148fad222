-- Tombstones: rows of [start, stop) of some series (common/tombstones.py) of a measurement, older than number, are
-- hidden. At most one of a measurement has start = stop: it hides nothing, and names series that may have no rows left.
CREATE TABLE tombstones (
    measurement INTEGER NOT NULL, number INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
    checksum INTEGER NOT NULL, series BLOB NOT NULL
);
CREATE UNIQUE INDEX tombstones_places ON tombstones (measurement, number);
