"""Mechanisms of protection, without rules: hashes, encryption, bcrypt, JWTs, limits of guessing, the audit log."""
