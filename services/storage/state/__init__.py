"""What storage holds in memory of what is on disk, and the types that it is made of."""
