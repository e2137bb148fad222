"""Group commit: the queue of changes, what a transaction will have changed, and the feed that tells of it."""
