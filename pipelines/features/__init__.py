"""Rows: dense blocks of tag values, closed by ticks. Pure: no clock, file, socket or random."""
