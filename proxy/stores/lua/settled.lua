-- Settled: what was charged and may not stand in the ledger yet. A member is "<request id> <tokens> <nUSD>", its score the ms
-- when it was charged. Whoever compares counters with the ledger removes what has arrived there; if nobody does, the oldest are
-- forgotten beyond KEPT, and `settled_until` of the account remembers up to when.
local KEPT = 20000

local function remember(account, settled, now_ms, member)
  redis.call('ZADD', settled, now_ms, member)
  if redis.call('ZCARD', settled) > KEPT then
    redis.call('HSET', account, 'settled_until', redis.call('ZPOPMIN', settled)[2])
  end
end
