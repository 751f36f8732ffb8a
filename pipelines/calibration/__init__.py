"""Calibration from historian files: what a cell's tags are normally, learnt before the agent runs.

`historian` reads files as rows of the cell, `labels` what people called false or true, `normals` chooses the rows that
are normal and measures each tag; `pipelines.detectors.calibration` is the file that comes of it.
"""
