"""Faults on a real broker, under load: one function a fault, for `make test` and `make soak` alike."""
