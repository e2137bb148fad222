"""The fault suite: ``make faults``. Each case of the list in the reliability notes prints one line with its figures.

``FAULT_ROUNDS=100 make faults`` does every case a hundred times, ``FAULT_ROUNDS=spec`` as often as the notes want it;
without it each has a default of its own, and the whole takes about half an hour on two cores. Wants gcc (R09, R10,
R12, R13, R16) and root for file systems of its own (R11, R12) and for a group with little memory (L06: cgroup v1);
without them these are skipped, and say so.
"""
