"""Plain language: a sentence becomes choices from the catalogue, or is not understood. Nothing is guessed."""
