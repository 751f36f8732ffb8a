"""Peers on the same topic: scripts for an environment of their own, which know nothing of the product."""
