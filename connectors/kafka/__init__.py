"""Apache Kafka: settings to clients, topics, a plant's own streams, and a broker for benches and tests."""
