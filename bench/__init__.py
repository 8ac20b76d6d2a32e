"""How fast this is, paired against the book's notebook chapter in one run.

The machine may be slower in one minute than in the next, so a program and what it is held against
take turns, and what counts are ratios of medians.
"""
