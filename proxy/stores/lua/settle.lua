#!lua flags=allow-oom
-- Settles a request: gives its hold back and charges what it used.
--
-- State      KEYS[1] account, hash: the counters that admit.lua describes. KEYS[2] leases, KEYS[3] late: see leases.lua
--            KEYS[4] settled: see settled.lua
-- Arguments  1 request id  2 its lease "<id> <tokens> <nUSD>"  3 tokens held  4 nUSD held  5 tokens used  6 nUSD used
--            7 the account's tokens per minute, empty if not limited  8… other leases that it may have, see top_up.lua
-- Reply      {id, 1} charged; {id, 0} nothing to charge: settled before, or never admitted
-- Atomic     the lease (or what remembers it, if it ran out) goes in the same step as the charge comes: a settle that is
--            repeated, because its answer was lost, changes nothing.
-- Money      is text from the caller to HINCRBY and never a Lua number.
-- Why flags  a server out of memory refuses new requests, but those it let in must be charged.
-- Periods    where the totals stood when the day and the month began is kept whatever the plan says: a changed plan finds it.

-- include: rates
-- include: calendar
-- include: leases
-- include: settled
local id, lease = ARGV[1], ARGV[2]
local held, held_nusd = ARGV[3], ARGV[4]
local used, tokens_per_minute = tonumber(ARGV[5]), tonumber(ARGV[7])
local in_time = redis.call('ZREM', KEYS[2], lease) == 1
local known = in_time or redis.call('ZREM', KEYS[3], lease) == 1
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

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local account = redis.call('HMGET', KEYS[1], 'tokens_tat', 'held_tokens', 'total_tokens', 'day', 'month', 'total_nusd')
local today = day_of(now / 1000)
if tonumber(account[4] or '') ~= today then
  redis.call('HSET', KEYS[1], 'day', today, 'day_tokens', account[3] or '0', 'day_nusd', account[6] or '0')
  local month = month_of(now / 1000)
  if tonumber(account[5] or '') ~= month then
    redis.call('HSET', KEYS[1], 'month', month, 'month_nusd', account[6] or '0')
  end
end

held = tonumber(held)
local held_tokens = (tonumber(account[2] or '') or 0) - (in_time and held or 0)
local tat = tonumber(account[1] or '') or 0
if tokens_per_minute and tokens_per_minute > 0 then
  -- The rate was charged with what was held; the difference moves its TAT. What has come back by itself is not given twice.
  tat = math.max(tat + (used - held) * WINDOW / tokens_per_minute, math.min(tat, now))
end
redis.call('HSET', KEYS[1], 'tokens_tat', moment(tat), 'held_tokens', held_tokens,
  'total_tokens', (tonumber(account[3] or '') or 0) + used)
if in_time then
  add(KEYS[1], 'held_nusd', held_nusd, '-')
end
add(KEYS[1], 'total_nusd', ARGV[6])
if used > 0 or ARGV[6] ~= '0' then
  remember(KEYS[1], KEYS[4], math.floor(now / 1000), id .. ' ' .. ARGV[5] .. ' ' .. ARGV[6])
end
return {id, 1}
