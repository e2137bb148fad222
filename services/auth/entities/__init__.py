"""What auth keeps: one frozen type for each kind of record."""
