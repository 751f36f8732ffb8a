"""A production module of our own making, and what can happen in it: see `cases.py` beside this."""
