#!lua flags=allow-oom
-- Settles a request: gives its hold back and charges what it used.
--
-- State      KEYS[1] account, hash: the counters that admit.lua describes. KEYS[2] leases, KEYS[3] late: see leases.lua
--            KEYS[4] charged, a list in the order of the settlements: what was charged and may not stand in the ledger yet, as
--            "<request id> <tokens> <nUSD>". Whoever compares counters with the ledger removes what has arrived there; if nobody
--            does, the oldest are forgotten beyond KEPT, and `settled_until` of the account tells when that was the last time, ms
-- Arguments  1 what to charge "<id> <tokens> <nUSD>"  2 its lease "<id> <tokens> <nUSD>"
--            3 numbers, packed as doubles, which are read at once: tokens held, nUSD held, tokens used, nUSD used, the account's
--              tokens per minute, infinite if not limited
--            4… other leases that it may have, see top_up.lua
-- Reply      what to charge, also if there is nothing to charge: settled before, or never admitted
-- Atomic     the lease (or what remembers it, if it ran out) goes in the same step as the charge comes: a settle that is
--            repeated, because its answer was lost, changes nothing.
-- Money      see money.lua
-- Why flags  a server out of memory refuses new requests, but those it let in must be charged.
-- Periods    where the totals stood when the day and the month began is kept whatever the plan says: a changed plan finds it.
-- Speed      every request pays for this: see admit.lua

-- include: money
local KEPT = 20000

local call = redis.call
local charge, lease = ARGV[1], ARGV[2]
local tokens, nusd, used, used_nusd, tokens_per_minute = struct.unpack('<ddddd', ARGV[3])
local in_time = call('ZREM', KEYS[2], lease) == 1
if not in_time then
-- include: leases
  local known = call('ZREM', KEYS[3], lease) == 1
  for i = 4, #ARGV do
    if not known then
      lease = ARGV[i]
      tokens, nusd = amounts(lease)
      in_time = call('ZREM', KEYS[2], lease) == 1
      known = in_time or call('ZREM', KEYS[3], lease) == 1
    end
  end
  if not known then
    return charge
  end
end

local time = redis.call('TIME')
local seconds = time[1] + 0
local account = call('HMGET', KEYS[1], 'tokens_tat', 'held_tokens', 'held_nusd', 'total_tokens', 'total_nusd', 'day')
local today = (seconds - seconds % 86400) / 86400
if (account[6] or 0) + 0 ~= today then
-- include: calendar
  local month = month_of(seconds * 1000)
  if call('HGET', KEYS[1], 'month') ~= tostring(month) then
    call('HSET', KEYS[1], 'month', month, 'month_nusd', account[5] or 0)
  end
  call('HSET', KEYS[1], 'day', today, 'day_tokens', account[4] or 0, 'day_nusd', account[5] or 0)
end

local tat = (account[1] or 0) + 0
if tokens_per_minute > 0 then
  -- The rate was charged with what was held; the difference moves its TAT, by as many µs as the units take to come back (see
  -- rates.lua). What has come back by itself is not given twice.
  local now = seconds * 1000000 + time[2]
  local earliest = tat < now and tat or now
  tat = tat + (used - tokens) * 60000000 / tokens_per_minute
  if tat < earliest then
    tat = earliest
  end
end
local held_tokens, held_nusd = (account[2] or 0) + 0, (account[3] or 0) + 0
local total_tokens, total_nusd = (account[4] or 0) + used, (account[5] or 0) + used_nusd
if held_nusd + nusd < EXACT and total_nusd < EXACT then
  if in_time then
    held_tokens, held_nusd = held_tokens - tokens, held_nusd - nusd
  end
  call('HSET', KEYS[1], 'tokens_tat', tat, 'held_tokens', held_tokens, 'total_tokens', total_tokens, 'held_nusd', held_nusd,
    'total_nusd', total_nusd)
else
-- include: leases
  call('HSET', KEYS[1], 'tokens_tat', tat, 'total_tokens', total_tokens)
  if in_time then
    hold(KEYS[1], lease, '-')
  end
  local _, amount = amounts(charge)
  add(KEYS[1], 'total_nusd', amount)
end

if used > 0 or used_nusd > 0 then
  if call('RPUSH', KEYS[4], charge) > KEPT then
    call('LPOP', KEYS[4])
    call('HSET', KEYS[1], 'settled_until', seconds * 1000 + math.floor(time[2] / 1000))
  end
end
return charge
