"""What crosses a wire or enters the log, as data only. Imports no other package of this tree."""
