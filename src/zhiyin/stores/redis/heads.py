"""The newest position of every tenant's change log, shared by all processes of a service.

The log in the database is the truth; Redis only spares every process a question to the database before every
answer. What Redis says is believed while three things hold, else it counts as unknown:

* It was compared with the database within the last second (`TRUST_SECONDS`), whatever happened since.
* The server is the very one that was told: the same start of the process and the same history of copies. A
  server that came back from an old dump, or a copy that was promoted, knows nothing.
* Whoever compared it had begun after Redis last forgot. A comparison that began earlier is not taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from zhiyin.domain.errors import StoreError
from zhiyin.stores.redis.connection import NobodyListens, RedisConnection

TRUST_SECONDS = 1.0
"""How long a comparison with the database is believed."""
_NOT_KNOWN = -1

# One hash a service. Field: tenant. Value: "life since compared position".
#   life       which start of which server wrote it
#   since      microseconds when the comparison began; names the comparison
#   compared   1 once the position of the database came in
#   position   the highest one told; before the comparison, the highest one told since it began
_READ = """
local function life()
  local server = redis.call('INFO', 'server')
  local copies = redis.call('INFO', 'replication')
  return string.match(server, 'run_id:(%w+)') .. (string.match(copies, 'master_replid:(%w+)') or '')
end
local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function write(entry)
  redis.call('HSET', KEYS[1], ARGV[1],
    string.format('%s %.0f %d %.0f', entry.life, entry.since, entry.compared, entry.position))
end
local function read()
  local here = life()
  local text = redis.call('HGET', KEYS[1], ARGV[1])
  local pattern = '^(%w+) (%d+) (%d) (%d+)$'
  local was, since, compared, position = string.match(text or '', pattern)
  if was ~= here then
    return {life = here, since = 0, compared = 0, position = 0}
  end
  return {life = here, since = tonumber(since), compared = tonumber(compared), position = tonumber(position)}
end
"""

# ARGV: tenant, microseconds of trust. Answers {position or -1, comparison}.
_LOOK = (
    _READ
    + """
local entry, now = read(), microseconds()
if entry.since > now or now - entry.since >= tonumber(ARGV[2]) then
  -- A new comparison begins. What was told before it is in the database already.
  entry = {life = entry.life, since = now, compared = 0, position = 0}
  write(entry)
end
local known = entry.compared == 1 and string.format('%.0f', entry.position) or '-1'
return {known, string.format('%.0f', entry.since)}
"""
)

# ARGV: tenant, position.
_RAISE = (
    _READ
    + """
local entry, told = read(), tonumber(ARGV[2])
if told > entry.position then
  entry.position = told
  write(entry)
end
return 1
"""
)

# ARGV: tenant, position, comparison.
_COMPARED = (
    _READ
    + """
local entry, told = read(), tonumber(ARGV[2])
if entry.since == 0 or entry.since ~= tonumber(ARGV[3]) then
  return 0
end
entry.compared = 1
entry.position = math.max(entry.position, told)
write(entry)
return 1
"""
)


class SharedHeads:
    """Newest positions in Redis.

    A process calls `raise_to` after its change is durable in the database and before the client is told.
    Every process calls `current` (or `newest`) before it answers, and reads the log when it is behind.

    Args:
        connection: The server.
        name: What the service is called in Redis; services that share a server need different names.
        trust_seconds: How long a comparison with the database is believed: one question to the database a
            tenant in this time, however many processes and requests.

    Attributes:
        trust_seconds: As given.
    """

    def __init__(
        self, connection: RedisConnection, *, name: str = "zhiyin", trust_seconds: float = TRUST_SECONDS
    ) -> None:
        self.trust_seconds = trust_seconds
        self._key = f"{name}:heads"
        self._look = connection.script(_LOOK)
        self._raise = connection.script(_RAISE, is_urgent=True)
        self._compared = connection.script(_COMPARED)

    def raise_to(self, tenant: str, position: int) -> bool:
        """Tell all processes that the log of a tenant has reached a position; a lower one changes nothing.

        Returns:
            Whether nobody can believe an older position from now on: Redis took it, or there is no Redis, and
            the next one that starts there will know nothing. Otherwise other processes may believe an older
            position for `trust_seconds`; whoever must rule that out waits so long before telling the client,
            for which there is `wait_until_forgotten`.
        """
        try:
            self._raise([self._key], [tenant, position])
        except NobodyListens:
            return True
        except StoreError:
            return False
        return True

    def wait_until_forgotten(self) -> None:
        """Wait until no process believes a position that was compared before now."""
        time.sleep(self.trust_seconds)

    def newest(self, tenant: str) -> int | None:
        """Return the newest position, or None when Redis does not know it for certain or does not answer."""
        return self._found(tenant)[0]

    def current(self, tenant: str, ask_database: Callable[[], int]) -> int:
        """Return the newest position: from Redis when it knows, else from the database, and Redis learns it.

        Args:
            tenant: Whose log.
            ask_database: Returns the newest position of the log; called at most once.

        Raises:
            Whatever ``ask_database`` raises; Redis raises nothing here.
        """
        position, comparison = self._found(tenant)
        if position is not None:
            return position
        truth = ask_database()
        if comparison is not None:
            with suppress(StoreError):  # the next one who asks compares again
                self._compared([self._key], [tenant, truth, comparison])
        return truth

    def _found(self, tenant: str) -> tuple[int | None, str | None]:
        """Return the position where it is known, and the comparison under way where Redis answers."""
        try:
            answer = self._look([self._key], [tenant, round(self.trust_seconds * 1e6)])
        except StoreError:
            return None, None
        position = int(answer[0])
        return (None if position == _NOT_KNOWN else position), answer[1]
