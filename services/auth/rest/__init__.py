"""What every call of the resource API needs: request and answer, paths, pages, JSON as Go reads and writes it."""
