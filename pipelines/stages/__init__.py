"""The way of the data over Kafka: thin adapters around the same pure functions that the embedded runtime runs."""
