"""What the other services ask at each request: who a credential is, and which buckets a name reaches."""
