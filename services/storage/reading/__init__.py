"""What queries and ingests ask of storage: plans, column chunks, series dictionaries."""
