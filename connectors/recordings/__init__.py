"""Recorded files as a source, open loop: nothing can be sent to them. CSV, CSV.gz and Parquet."""
