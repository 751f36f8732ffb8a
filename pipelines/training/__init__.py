"""The embedded model: made-up cells and incidents, training, weights, and what the model reaches on unseen ones."""
