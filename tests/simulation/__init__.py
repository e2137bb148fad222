"""Ingest and storage under a fake clock: the same seed gives the same run, to the last cut connection (R34).

The real parts of the gateway's batching, of ingest and of storage run in one event loop whose clock jumps to the next
timer. Between them is a network that delays, cuts and repeats calls; under storage is SQLite in memory, whose process
may die before or after any transaction. What the clients were told is then held against what storage has.

    loop.py      the clock            cluster.py    the services, started and killed
    network.py   calls, and nodes     workload.py   clients, and the history of what they were told
    disk.py      the database         check.py      what has to hold
    run.py       one seed; ``python -m tests.simulation SEED`` replays it with its trace

    SIMULATION_SEEDS=50000 pytest tests/simulation      more seeds than the 2,000 of every run
"""
