"""The pure core: folds, decisions and the guard. No clock, socket, file, random or model call. Imports schemas only."""
