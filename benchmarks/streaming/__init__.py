"""What `benchmarks.stream` is made of: a made-up plant, its topic, the workers that are measured, and the peers."""
