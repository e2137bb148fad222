"""Administration in InfluxQL: databases, retention policies, users and grants as 1.x knows them."""
