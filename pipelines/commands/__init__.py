"""The commands of the command line, grouped by who uses them."""
