-- The dictionary of a measurement may be written anew without series that have no rows left. Then the numbers of its
-- series are others, and it has a row here: how often that has happened (none = never). dictionary.measurement is
-- epoch << 32 | id of the measurement. Pieces of another epoch are remains, and deleted.
CREATE TABLE generations (measurement INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, checksum INTEGER NOT NULL);
