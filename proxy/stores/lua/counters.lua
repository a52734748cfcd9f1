#!lua
-- Reads one account's counters together with the requests that stand between them and the ledger.
--
-- State      KEYS[1] account, hash: the counters that admit.lua describes, and corrections: how often they were corrected.
--            KEYS[2] leases, KEYS[3] late: see leases.lua. KEYS[4] charged: see settle.lua
-- Arguments  1 a name for the reply
-- Reply      {name, is there such an account (0, 1), corrections, tokens settled ever, nUSD settled ever, now ms,
--             ms when one of the charged was forgotten the last time (0: never), {leases not settled}, {charged}}
-- Atomic     one moment: a request is either in the totals or among those not settled.
-- Bounded    by the requests in flight, by those a killed gateway left behind within a day, and by what `charged` keeps.
-- Money      is handed out as the text that is stored.
local account = redis.call('HMGET', KEYS[1], 'name', 'corrections', 'total_tokens', 'total_nusd', 'settled_until')
local time = redis.call('TIME')
local open = redis.call('ZRANGE', KEYS[2], 0, -1)
for _, lease in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  open[#open + 1] = lease
end
return {ARGV[1], account[1] and 1 or 0, account[2] or '0', account[3] or '0', account[4] or '0',
  time[1] * 1000 + math.floor(time[2] / 1000), account[5] or '0', open, redis.call('LRANGE', KEYS[4], 0, -1)}
