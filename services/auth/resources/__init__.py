"""The resources of the v2 API: the rules of each, and its calls."""
