"""Limits that several processes share, counted in Redis."""

from collections.abc import Sequence
from typing import Final

from service.access.caller import Taken, now
from service.access.counts import Counts
from service.access.key import MICROSECONDS, Amounts, Limit
from service.cache.script import RedisScript, ScriptCall
from service.telemetry.request_metrics import (
    ACCESS_LOCAL_DECISIONS,
)

# The same rules as in `counts.py`, by the clock of Redis. Takes one key for each limit, and for
# each the amount, the most, the length of the window and the spacing; times in microseconds.
# Returns the number of the limit that must be waited for, or 0, and the wait; then for each limit
# what is left, and the time until all of it is.
TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local late, wait, found = 0, 0, {}
for i = 1, #KEYS do
  local amount, most = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local window, spacing = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  local stored = redis.call('HMGET', KEYS[i], 'used', 'until')
  local used, ends, pause = tonumber(stored[1] or 0), tonumber(stored[2] or 0), 0
  if spacing > 0 then
    pause = math.max(ends, now) - now + (amount - most) * spacing
  elseif now >= ends then
    used, ends = 0, now
    if amount > most then pause = window end
  elseif used + amount > most then
    pause = ends - now
  end
  if pause > wait then late, wait = i, pause end
  found[i] = {used, ends, amount, most, window, spacing}
end
local answer = {late, wait}
for i = 1, #KEYS do
  local used, ends, amount, most, window, spacing = unpack(found[i])
  if late == 0 then
    if spacing > 0 then
      ends = math.max(ends, now) + amount * spacing
    else
      used = used + amount
      if ends == now then ends = now + window end
    end
    redis.call('HSET', KEYS[i], 'used', string.format('%.0f', used),
               'until', string.format('%.0f', ends))
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', math.ceil((ends - now) / 1000) + 1000))
  end
  local left = math.max(0, ends - now)
  local room = most - used
  if spacing > 0 then room = math.floor((most * spacing - left) / spacing) end
  answer[2 * i + 1], answer[2 * i + 2] = math.max(0, room), left
end
return answer
"""


class RedisCounts:
    """Counts in Redis. If it does not answer, the caller counts in its own process."""

    def __init__(self, script: RedisScript, prefix: str) -> None:
        """Take the script `TAKE`, and the prefix of all keys."""
        self._script, self._prefix = script, prefix

    def open(self) -> None:
        """Start to connect."""
        self._script.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._script.close()

    async def take(
        self, name: str, limits: Sequence[Limit], amounts: Amounts, counts: Counts
    ) -> Taken | None:
        """Use the amounts, as `SharedCounts.take` promises."""
        # The braces keep the limits of a name on one server of a cluster.
        keys = [f"{self._prefix}limits:{{{name}}}:{limit.name}" for limit in limits]
        arguments = [
            number
            for limit in limits
            for number in (
                amounts[limit.unit],
                limit.most,
                limit.seconds * MICROSECONDS,
                limit.spacing,
            )
        ]
        answer = await self._script.run(ScriptCall(keys, arguments))
        if answer is None or len(answer) != 2 + 2 * len(limits):
            ACCESS_LOCAL_DECISIONS.inc()
            return None
        late, wait, *standings = answer
        at = now()
        for limit, room, reset in zip(limits, standings[::2], standings[1::2], strict=True):
            counts.count(limit).set(limit, room, reset, at)
        return Taken((limits[late - 1], wait) if 0 < late <= len(limits) else None)
