"""Entities read from storage and changed there, the ids of new ones, and the last uses of tokens."""
