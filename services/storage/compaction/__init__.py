"""Small segments merged into large ones: which are next, and the process that does it."""
