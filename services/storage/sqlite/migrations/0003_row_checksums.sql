-- Every row has a checksum: a CRC-32 over all its cells (sqlite/checksums.py; migrate.py lends the function to SQL).
-- The row of the sequence keeps, of each table but results, how many rows it has and the exclusive or of their
-- checksums: so a row that is missing is noticed too. An empty blob = to be counted at the next start.
ALTER TABLE sequence ADD COLUMN tallies BLOB NOT NULL DEFAULT x'';
ALTER TABLE sequence ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE sequence SET checksum = cells_checksum(number, tallies);

-- hash_key stands there twice: without it no series is known again.
ALTER TABLE facts ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE facts SET checksum = cells_checksum(value);
INSERT INTO facts SELECT 'hash_key_copy', value, checksum FROM facts WHERE name = 'hash_key';

ALTER TABLE records ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE records SET checksum = cells_checksum(kind, id, version, body);
ALTER TABLE record_keys ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE record_keys SET checksum = cells_checksum(key, kind, id);
ALTER TABLE record_indexes ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE record_indexes SET checksum = cells_checksum(kind, field, value, id);

ALTER TABLE measurements ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE measurements SET checksum = cells_checksum(id, bucket, name, dropped);
ALTER TABLE fields ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE fields SET checksum = cells_checksum(measurement, shard_start, field, type);

ALTER TABLE results ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE results SET checksum = cells_checksum(id, result);
ALTER TABLE replaced ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE replaced SET checksum = cells_checksum(segment, at_ms);
ALTER TABLE quarantine ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE quarantine SET checksum = cells_checksum(segment, at_ms, CAST(reason AS BLOB));
