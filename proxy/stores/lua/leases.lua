-- Leases: what requests in flight hold. A lease is a member "<request id> <tokens> <nUSD>" whose score is the ms when it runs
-- out; a gateway that lives extends it, a gateway that was killed leaks nothing. A lease that ran out gives its hold back and
-- moves to `late` for a day, with the moment as its score: its request may still be settled, and is then charged, once.
--
-- A request has one lease. When it comes to hold more, another takes its place, and a gateway that did not hear whether that
-- happened names both: the one that is there counts.
local LATE_MS = 86400000
local AT_ONCE = 100

local function amounts(lease)
  return string.match(lease, ' (%d+) (%d+)$')
end

-- Adds what a lease holds to what the account holds, or takes it off.
local function hold(account, lease, sign)
  local tokens, nusd = amounts(lease)
  add(account, 'held_tokens', tokens, sign)
  add(account, 'held_nusd', nusd, sign)
end

-- Free what ran out, at most AT_ONCE per call so that a script stays short; the next call frees more. Result: how many.
local function free_expired(account, leases, late, now_ms)
  local over = redis.call('ZRANGEBYSCORE', leases, '-inf', now_ms, 'LIMIT', 0, AT_ONCE)
  if #over == 0 then
    return 0
  end
  for _, lease in ipairs(over) do
    redis.call('ZREM', leases, lease)
    redis.call('ZADD', late, now_ms, lease)
    hold(account, lease, '-')
  end
  redis.call('ZREMRANGEBYSCORE', late, '-inf', now_ms - LATE_MS)
  redis.call('PEXPIRE', late, LATE_MS)
  return #over
end

-- Result: is this lease there. One that ran out takes its hold again, whatever the limits say now: its request was admitted
-- and is running.
local function is_there(account, leases, late, lease, until_ms)
  if redis.call('ZSCORE', leases, lease) then
    return true
  elseif redis.call('ZREM', late, lease) == 0 then
    return false
  end
  redis.call('ZADD', leases, until_ms, lease)
  hold(account, lease)
  return true
end
