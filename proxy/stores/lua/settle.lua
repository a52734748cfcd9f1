#!lua flags=allow-oom
-- Settles a request: gives its hold back and charges what it used.
--
-- State      KEYS[1] account, hash: the counters that admit.lua describes. KEYS[2] leases, KEYS[3] late: see leases.lua
--            KEYS[4] charged, a list in the order of the settlements: what was charged and may not stand in the ledger yet, as
--            "<request id> <tokens> <nUSD>". Whoever compares counters with the ledger removes what has arrived there; if nobody
--            does, the oldest are forgotten beyond KEPT, and `settled_until` of the account tells when that was the last time, ms
-- Arguments  1 request id  2 its lease "<id> <tokens> <nUSD>"  3 tokens held  4 nUSD held  5 tokens used  6 nUSD used
--            7 the account's tokens per minute, empty if not limited  8… other leases that it may have, see top_up.lua
-- Reply      {id, 1} charged; {id, 0} nothing to charge: settled before, or never admitted
-- Atomic     the lease (or what remembers it, if it ran out) goes in the same step as the charge comes: a settle that is
--            repeated, because its answer was lost, changes nothing.
-- Money      see money.lua
-- Why flags  a server out of memory refuses new requests, but those it let in must be charged.
-- Periods    where the totals stood when the day and the month began is kept whatever the plan says: a changed plan finds it.
-- Speed      every request pays for this: one call of the server for each thing that is read or written, and functions that
--            are needed seldom are made where they are needed.

-- include: money
local KEPT = 20000

local id, lease = ARGV[1], ARGV[2]
local held, held_nusd = ARGV[3], ARGV[4]
local in_time = redis.call('ZREM', KEYS[2], lease) == 1
if not in_time then
-- include: leases
  local known = redis.call('ZREM', KEYS[3], lease) == 1
  for i = 8, #ARGV do
    if not known then
      held, held_nusd = amounts(ARGV[i])
      in_time = redis.call('ZREM', KEYS[2], ARGV[i]) == 1
      known = in_time or redis.call('ZREM', KEYS[3], ARGV[i]) == 1
    end
  end
  if not known then
    return {id, 0}
  end
end

local time = redis.call('TIME')
local account = redis.call('HMGET', KEYS[1], 'tokens_tat', 'held_tokens', 'held_nusd', 'total_tokens', 'total_nusd', 'day')
for i = 1, 6 do
  account[i] = account[i] or '0'
end
local today = math.floor(time[1] / 86400)
if account[6] + 0 ~= today then
-- include: calendar
  local month = month_of(time[1] * 1000)
  if redis.call('HGET', KEYS[1], 'month') ~= tostring(month) then
    redis.call('HSET', KEYS[1], 'month', month, 'month_nusd', account[5])
  end
  redis.call('HSET', KEYS[1], 'day', today, 'day_tokens', account[4], 'day_nusd', account[5])
end

local used, tokens_per_minute = ARGV[5] + 0, tonumber(ARGV[7])
local tat = account[1] + 0
if tokens_per_minute and tokens_per_minute > 0 then
  -- The rate was charged with what was held; the difference moves its TAT, by as many µs as the units take to come back (see
  -- rates.lua). What has come back by itself is not given twice.
  local now = time[1] * 1000000 + time[2]
  tat = math.max(tat + (used - held) * 60000000 / tokens_per_minute, math.min(tat, now))
end
local back = in_time and 1 or 0
local held_tokens, total_tokens = account[2] - back * held, account[4] + used
local total_nusd = account[5] + ARGV[6]
if account[3] + held_nusd < EXACT and total_nusd < EXACT then
  redis.call('HSET', KEYS[1], 'tokens_tat', tat, 'held_tokens', held_tokens, 'total_tokens', total_tokens,
    'held_nusd', account[3] - back * held_nusd, 'total_nusd', total_nusd)
else
  redis.call('HSET', KEYS[1], 'tokens_tat', tat, 'held_tokens', held_tokens, 'total_tokens', total_tokens)
  if in_time then
    add(KEYS[1], 'held_nusd', held_nusd, '-')
  end
  add(KEYS[1], 'total_nusd', ARGV[6])
end

if used > 0 or ARGV[6] ~= '0' then
  if redis.call('RPUSH', KEYS[4], id .. ' ' .. ARGV[5] .. ' ' .. ARGV[6]) > KEPT then
    redis.call('LPOP', KEYS[4])
    redis.call('HSET', KEYS[1], 'settled_until', time[1] * 1000 + math.floor(time[2] / 1000))
  end
end
return {id, 1}
