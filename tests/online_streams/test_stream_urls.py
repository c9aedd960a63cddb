"""A URL says which stream, or what is wrong with it; never a password."""

from typing import Any

import pytest

from zhiyin.domain.errors import ConfigError, ZhiyinError
from zhiyin.online.streams.kafka import KafkaConsumer
from zhiyin.online.streams.opening import open_stream
from zhiyin.online.streams.redis_streams import RedisStreamConsumer
from zhiyin.online.streams.settings import StreamSettings, this_process


def nowhere(_: Any) -> Any:
    raise AssertionError


def test_redis() -> None:
    url = "rediss://u:p%40@cache:7000/2?stream=clicks&group=g&consumer=c&batch_size=7&begin=newest&ssl_ca_certs=/ca"
    settings = StreamSettings.from_url(url)
    assert settings.server == "rediss://u:p%40@cache:7000/2?ssl_ca_certs=%2Fca"
    assert (settings.stream, settings.group, settings.consumer) == ("clicks", "g", "c")
    assert (settings.batch_size, settings.begin, settings.is_kafka) == (7, "newest", False)
    assert "p%40" not in repr(settings)


def test_kafka() -> None:
    settings = StreamSettings.from_url(
        "kafka://u:p%40@one:9092,two:9092/clicks?group=g&session.timeout.ms=9000"
    )
    assert settings.server == "one:9092,two:9092"
    assert (settings.stream, settings.group, settings.is_kafka) == ("clicks", "g", True)
    assert settings.client_settings == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "u",
        "sasl.password": "p@",
        "session.timeout.ms": "9000",
    }
    assert "p@" not in repr(settings)
    assert settings.consumer == this_process()


def test_the_scheme_chooses() -> None:
    assert isinstance(open_stream("redis://127.0.0.1:1/0?stream=a", nowhere), RedisStreamConsumer)
    assert isinstance(open_stream("kafka://127.0.0.1:1/a", nowhere), KafkaConsumer)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://u:tea-secret@host/queue", "not known"),
        ("events", "not known"),
        ("redis://u:tea-secret@host/0", "names no stream"),
        ("kafka://u:tea-secret@host:9092/", "names no stream"),
        ("kafka://u:tea-secret@/topic", "cannot be read"),
        ("redis://u:tea-secret@host/0?stream=a&batchsize=3", "Did you mean 'batch_size'"),
        ("kafka://u:tea-secret@host/a?groop=3", "Did you mean 'group'"),
        ("redis://u:tea-secret@host/0?stream=a&batch_size=0", "greater than or equal to 1"),
        ("redis://u:tea-secret@host/0?stream=a&begin=middle", "'oldest' or 'newest'"),
        ("kafka://u:tea-secret@host/a?session.timeout=3", "session.timeout"),
        ("redis://u:tea-secret@host:port/0?stream=a", "cannot be read"),
    ],
)
def test_what_is_wrong(url: str, words: str) -> None:
    with pytest.raises(ZhiyinError, match=words) as caught:
        open_stream(url, nowhere)
    assert "tea-secret" not in str(caught.value)
    assert isinstance(caught.value, ConfigError) or caught.value.possible
