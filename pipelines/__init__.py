"""Composition: stages, runtimes, replay and the command line. May import everything."""
