"""Events that arrive as messages of a stream: Redis Streams and the Kafka protocol."""
