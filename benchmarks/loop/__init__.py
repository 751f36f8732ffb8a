"""The closed loop: the same faults of the simulated cell under several agents, and under one who knows everything."""
