"""Events out of a Redis stream, read by a consumer group.

A message stays *pending* for its consumer from the moment it is read until it is acknowledged, which happens
after its event is durable. So a consumer that dies leaves what it had not stored: whoever reads on takes it
over after a while, and whoever comes back under the same name begins with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zhiyin.domain.errors import StoreError
from zhiyin.online.streams.consumer import WAIT_SECONDS, StreamConsumer
from zhiyin.online.streams.deliveries import Accept, Batch
from zhiyin.online.streams.messages import Message
from zhiyin.online.streams.settings import StreamSettings
from zhiyin.stores.redis.connection import Breaker, RedisConnection

if TYPE_CHECKING:
    from redis import Redis

FIELD = "json"
"""Field of a message that holds the event."""
MOST_DEAD_LETTERS = 100_000
"""About how many dead letters are kept; older ones go."""
_LAG_EVERY_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
_BRIEFLY = 0.01
_NEW = ">"
_FIRST = "0-0"

# KEYS: stream. ARGV: group. Answers how many messages of the group are not acknowledged. Servers before 7.0
# do not count the unread ones, so they are counted here, up to 10,000.
_LAG = """
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for place = 1, #fields, 2 do group[fields[place]] = fields[place + 1] end
  if group['name'] == ARGV[1] then
    local unread = group['lag']
    if not unread then
      local after = '(' .. group['last-delivered-id']
      unread = #redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 10000)
    end
    return group['pending'] + unread
  end
end
return -1
"""

# KEYS: stream. ARGV: group. Acknowledges pending messages that the stream does not hold any more.
_FORGET_TRIMMED = """
local lost = 0
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000)) do
  if #redis.call('XRANGE', KEYS[1], pending[1], pending[1]) == 0 then
    lost = lost + redis.call('XACK', KEYS[1], ARGV[1], pending[1])
  end
end
return lost
"""


class RedisStreamConsumer(StreamConsumer):
    """Reads a Redis stream as one consumer of a group; see `StreamConsumer`.

    Args:
        settings: Which stream, and how.
        accept: Where events go.

    Raises:
        StoreError: when the URL cannot be read.
        MissingExtra: when the package redis is not installed.
    """

    def __init__(self, settings: StreamSettings, accept: Accept) -> None:
        super().__init__(settings, accept)
        # The thread itself waits longer and longer while the server is away.
        patient = Breaker(first_pause=0.05, longest_pause=0.05)
        self._redis = RedisConnection(settings.server, answer_seconds=_ANSWER_SECONDS, breaker=patient)
        self._count_lag = self._redis.script(_LAG)
        self._forget_trimmed = self._redis.script(_FORGET_TRIMMED)
        self._dead_letters = settings.dead_letters or f"{settings.stream}:dead"
        self._own_after: str | None = _FIRST  # reading what is pending for this name; None when through
        self._has_group = self._was_in_group = False
        self._take_over_after = _FIRST
        self._take_over_at = 0.0
        self._count_lag_at = 0.0

    def _turn(self) -> None:
        if not self._has_group:
            self._join_group()
        self._settle_finished()
        self._watch()
        if self._deliveries.is_full:
            self._deliveries.wait(WAIT_SECONDS)
            return
        messages = self._read()
        if messages:
            self._deliveries.hand_over(messages)
        elif len(self._deliveries):
            self._deliveries.wait(_BRIEFLY)

    def _recover(self) -> None:
        # What was read in an answer that never arrived is pending for this name; a group may have been
        # lost with everything else.
        self._own_after = _FIRST
        self._has_group = False

    def _join_group(self) -> None:
        stream, group = self.settings.stream, self.settings.group
        # A group that was lost under way begins with the oldest message, or some would be missed.
        begin = "$" if self.settings.begin == "newest" and not self._was_in_group else _FIRST
        try:
            self._redis.ask(lambda client: client.xgroup_create(stream, group, id=begin, mkstream=True))
        except StoreError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._has_group = self._was_in_group = True

    def _read(self) -> list[Message]:
        if self._own_after is not None:
            return self._read_own(self._own_after)
        if time.monotonic() >= self._take_over_at:
            taken = self._take_over()
            if taken:
                return taken
        is_idle = not len(self._deliveries)
        return self._as_messages(self._read_after(_NEW, round(WAIT_SECONDS * 1000) if is_idle else None))

    def _read_own(self, after: str) -> list[Message]:
        """Read what this consumer was given earlier and did not acknowledge."""
        found = self._read_after(after, None)
        self._own_after = found[-1][0] if found else None
        return self._as_messages(found)

    def _read_after(self, after: str, block_ms: int | None) -> list[tuple[str, Mapping[str, str]]]:
        mine = self.settings

        def question(client: Redis) -> Any:
            return client.xreadgroup(
                mine.group, mine.consumer, {mine.stream: after}, count=mine.batch_size, block=block_ms
            )

        answer = self._redis.ask(question)
        return list(answer[0][1]) if answer else []

    def _take_over(self) -> list[Message]:
        """Take messages over that were read long ago and never acknowledged, by whomever."""
        mine = self.settings
        idle_ms = round(mine.take_over_after_seconds * 1000)

        def question(client: Redis) -> Any:
            return client.xautoclaim(
                mine.stream,
                mine.group,
                mine.consumer,
                min_idle_time=idle_ms,
                start_id=self._take_over_after,
                count=mine.batch_size,
            )

        after, found, *deleted = self._redis.ask(question)
        self._take_over_after = after
        if after == _FIRST:
            self._take_over_at = time.monotonic() + mine.take_over_after_seconds / 2
        self.counts.lost += len(deleted[0]) if deleted else 0
        if any(message_id is None for message_id, _ in found):
            self._drop_trimmed()
        messages = self._as_messages([(name, fields) for name, fields in found if name is not None])
        self.counts.taken_over += len(messages)
        return messages

    def _drop_trimmed(self) -> None:
        self.counts.lost += self._forget_trimmed([self.settings.stream], [self.settings.group])

    def _as_messages(self, found: list[tuple[str, Mapping[str, str]]]) -> list[Message]:
        """Turn what is not under way already into messages."""
        under_way = self._deliveries.marks() if found else set()
        if any(not fields for _, fields in found):
            self._drop_trimmed()
        return [
            _message(self.settings.stream, message_id, fields)
            for message_id, fields in found
            if fields and message_id not in under_way
        ]

    def _settle(self, batch: Batch) -> None:
        mine = self.settings

        def question(client: Redis) -> None:
            # Together, so that a message is either pending or acknowledged and, if it is dead, put aside.
            with client.pipeline(transaction=True) as together:
                for letter in batch.dead:
                    fields: dict[Any, Any] = {
                        "reason": letter.reason,
                        "position": letter.message.position,
                        FIELD: letter.message.payload,
                    }
                    together.xadd(self._dead_letters, fields, maxlen=MOST_DEAD_LETTERS, approximate=True)
                together.xack(mine.stream, mine.group, *(message.mark for message in batch.messages))
                together.execute()

        if batch.messages:
            self._redis.ask(question)

    def _watch(self) -> None:
        if time.monotonic() >= self._count_lag_at:
            lag = self._count_lag([self.settings.stream], [self.settings.group])
            self.counts.lag = lag if lag >= 0 else None
            self._count_lag_at = time.monotonic() + _LAG_EVERY_SECONDS

    def _close(self) -> None:
        mine = self.settings
        if not len(self._deliveries):
            self._redis.ask(lambda client: self._leave_group(client, mine))
        self._redis.close()

    @staticmethod
    def _leave_group(client: Redis, mine: StreamSettings) -> None:
        """Take the name off the list of the group, unless something is pending for it."""
        pending: Any = client.xpending_range(mine.stream, mine.group, "-", "+", 1, consumername=mine.consumer)
        if not pending:
            client.xgroup_delconsumer(mine.stream, mine.group, mine.consumer)


def _message(stream: str, message_id: str, fields: Mapping[str, str]) -> Message:
    has_event = FIELD in fields
    return Message(
        position=f"{stream}/{message_id}",
        payload=(fields[FIELD] if has_event else json.dumps(fields)).encode("utf-8", "surrogateescape"),
        arrived=int(message_id.partition("-")[0]) / 1000,
        mark=message_id,
        problem="" if has_event else f"The message has no field '{FIELD}'.",
    )
