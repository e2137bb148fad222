"""Tidegate beside InfluxDB 1.6.7 and VictoriaMetrics on one machine, in one run: ``python -m tests.bench``."""
