"""Codecs: arrays of one type ↔ bytes.

The encoder chooses, the bytes say what was chosen, so a decoder needs the number of values and nothing else. Level 0 is
for a commit (a pass or two over the values), level 1 and up for what compaction keeps. All integers are little-endian;
arithmetic on values is modulo 2^64, so that int64 and uint64 share every codec. The grammar of a type stands at the
head of its module. Numbers: docs/decisions/0001-codecs.md.
"""
