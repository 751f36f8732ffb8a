"""The event store and what is kept beside it: facts in one hash chain, blobs by hash, the cell's input in segments."""
