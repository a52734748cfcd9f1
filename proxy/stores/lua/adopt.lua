#!lua flags=allow-oom
-- Takes the hold of a request that a gateway let in by itself while the store was away: it runs or has run, so nothing is refused.
--
-- State      as in admit.lua: KEYS[1] account, KEYS[2] leases, KEYS[3] late
-- Arguments  1 request id  2 its lease "<id> <tokens> <nUSD>"  3 tokens held  4 nUSD held  5 lease, ms  6 ms since it was let in
--            7 requests/min  8 tokens/min, empty if not limited
-- Reply      {id, 1} held from now on; {id, 0} there is no such account: nothing will be charged either
-- Atomic     one that is held already, because an admission or an earlier adoption was carried out and its answer lost, takes
--            nothing twice.
-- Repeating  is safe until the request is settled, and settling begins when this has been answered. One that arrives even later
--            leaves a lease that nobody extends: it runs out, and nothing is charged for it.
-- Rates      are charged as if the request had been admitted when it was let in; what has come back since has come back.

-- include: rates
-- include: money
-- include: leases
local id, lease = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local account = redis.call('HMGET', KEYS[1], 'version', 'requests_tat', 'tokens_tat')
if not account[1] then
  return {id, 0}
end

local taken = redis.call('ZADD', KEYS[2], math.floor(now / 1000) + tonumber(ARGV[5]), lease) == 1
if not taken then
  return {id, 1}
end
hold(KEYS[1], lease)
if redis.call('ZREM', KEYS[3], lease) == 1 then
  return {id, 1}
end

local function charge(field, tat, limit, cost)
  if limit and limit > 0 then
    local from = math.max(tonumber(tat or '') or 0, now - tonumber(ARGV[6]) * 1000)
    redis.call('HSET', KEYS[1], field, math.min(from + cost * WINDOW / limit, now + 2 * WINDOW))
  end
end
charge('requests_tat', account[2], tonumber(ARGV[7]), 1)
charge('tokens_tat', account[3], tonumber(ARGV[8]), tonumber(ARGV[3]))
return {id, 1}
