#!lua flags=allow-oom
-- Extends the leases of requests that are still running.
--
-- State      KEYS[1] account, hash (held_tokens, held_nusd). KEYS[2] leases, KEYS[3] late: see leases.lua
-- Arguments  1 a name for the reply  2 lease, ms  3… the leases "<id> <tokens> <nUSD>", at most 100 per call
-- Reply      {name, how many are held now}
-- Atomic     a lease that ran out meanwhile (its gateway could not reach the store for a minute) takes its hold again, whatever
--            the limits say now: its request was admitted and is running. One that is settled stays settled.

-- include: money
-- include: leases
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
local held = 0
for i = 3, #ARGV do
  if is_there(KEYS[1], KEYS[2], KEYS[3], ARGV[i], until_ms) then
    held = held + 1
    redis.call('ZADD', KEYS[2], until_ms, ARGV[i])
  end
end
return {ARGV[1], held}
