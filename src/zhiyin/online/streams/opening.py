"""From the URL of a stream to its consumer."""

from __future__ import annotations

from zhiyin.online.streams.consumer import StreamConsumer
from zhiyin.online.streams.deliveries import Accept
from zhiyin.online.streams.kafka import KafkaConsumer
from zhiyin.online.streams.redis_streams import RedisStreamConsumer
from zhiyin.online.streams.settings import StreamSettings


def open_stream(url: str, accept: Accept) -> StreamConsumer:
    """Make the consumer of the stream behind a URL; nothing is read before its ``start()``.

    Args:
        url: ``redis://host:6379/0?stream=events&group=zhiyin`` or ``kafka://host:9092/topic?group=zhiyin``;
            every setting of `StreamSettings` may stand behind the question mark.
        accept: Takes events in. Its future is done once they are durable; an event handed over twice must be
            stored once. A `RequestError` or `DataError` blames the events, which are put aside; after any
            other error the same events are handed over again.

    Raises:
        ConfigError: when the URL cannot be read.
        StoreError: when the address in it cannot be read.
        MissingExtra: when the client of this kind of stream is not installed.
    """
    settings = StreamSettings.from_url(url)
    return KafkaConsumer(settings, accept) if settings.is_kafka else RedisStreamConsumer(settings, accept)
