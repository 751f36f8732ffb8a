"""The demonstration: a simulated cell, the agent that watches it, and scenes that must come out as they should."""
