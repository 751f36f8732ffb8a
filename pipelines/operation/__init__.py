"""How each process is, told truthfully: checks for `/readyz`, figures for `/metrics`, and the server that answers."""
