"""Published protocols for detectors: their folders read, the suite run over them row by row, their figures worked out.

`layout` and `series` read, `predicting` runs the suite, `points`, `segments`, `changes`, `faults` and `windows` are the
measures, `marking` puts them together, `results` and `report` show them. Nothing here decides or acts.
"""
