#!lua flags=allow-oom
-- Lets a request that is running hold more, because it is about to use more than it holds. All or nothing.
--
-- State      KEYS[1] account, hash: the counters that admit.lua describes. KEYS[2] leases, KEYS[3] late: see leases.lua
-- Arguments  1 request id  2 the lease that it wants "<id> <tokens> <nUSD>"  3 lease, ms
--            limits, empty if there is none: 4 tokens/min  5 tokens/day  6 budget of the day, nUSD  7 of the month  8 in total
--            9… the leases that it may have, at most 100
-- Reply      {id, 1} it has what it wants; {id, 0, limit} no room, nothing has changed; {id, 2} the request is not known (any more)
-- Atomic     what is added is the difference to the lease that is there, so that the holds stay the sum of the leases.
-- Rate       tokens per minute never refuse what is running; they are charged, and the requests that come next wait.
-- Repeating  a request that has what it wants gets no more of it.
-- Money      is added as text; Lua numbers only compare it.
-- Why flags  a server out of memory refuses new requests, but those it let in must not be cut because of that.

-- include: rates
-- include: calendar
-- include: money
-- include: leases
-- include: used
local id, wanted = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)
local until_ms = now_ms + tonumber(ARGV[3])
free_expired(KEYS[1], KEYS[2], KEYS[3], now_ms)
if is_there(KEYS[1], KEYS[2], KEYS[3], wanted, until_ms) then
  return {id, 1}
end
local has
for i = 9, #ARGV do
  if not has and is_there(KEYS[1], KEYS[2], KEYS[3], ARGV[i], until_ms) then
    has = ARGV[i]
  end
end
if not has then
  return {id, 2}
end

local tokens, nusd = amounts(wanted)
local had_tokens, had_nusd = amounts(has)
local more_tokens, more_nusd = tokens - had_tokens, nusd - had_nusd
local account = redis.call('HMGET', KEYS[1], 'tokens_tat', 'held_tokens', 'held_nusd',
  'day', 'total_tokens', 'day_tokens', 'total_nusd', 'day_nusd', 'month_nusd')
local tokens_today, today, this_month, ever = used(KEYS[1], now_ms, unpack(account, 4, 9))
local held_tokens, held_nusd = number(account[2]), number(account[3])
if tokens_today + held_tokens + more_tokens > (tonumber(ARGV[5]) or math.huge) then
  return {id, 0, 'tokens_per_day'}
end
for i, spent in ipairs({today, this_month, ever}) do
  if spent + held_nusd + more_nusd > (tonumber(ARGV[5 + i]) or math.huge) then
    return {id, 0, 'budget'}
  end
end

-- In this order: a key whose last entry is gone cannot be written while its slot is moved to another node of a cluster.
redis.call('ZADD', KEYS[2], until_ms, wanted)
redis.call('ZREM', KEYS[2], has)
hold(KEYS[1], has, '-')
hold(KEYS[1], wanted)
local tokens_per_minute = tonumber(ARGV[4])
if tokens_per_minute and tokens_per_minute > 0 then
  local tat = math.max(number(account[1]), now) + more_tokens * WINDOW / tokens_per_minute
  redis.call('HSET', KEYS[1], 'tokens_tat', tat)
end
return {id, 1}
