#!lua flags=allow-oom
-- Moves an account's counters to what the ledger says.
--
-- State      KEYS[1] account, hash: the counters that admit.lua describes, and corrections
-- Arguments  1 a name for the reply  2 corrections, as they were read
--            3 tokens to add (may be negative)  4 nUSD to add (may be negative)
--            5 the day  6 where the tokens, 7 the nUSD stood when it began  8 the month  9 where the nUSD stood when it began
-- Reply      {name, 1} corrected; {name, 0} somebody else was faster, or the day is over: read again
-- Atomic     totals are moved, not set: what was settled since they were read stays counted. Of two that read the same state
--            only one corrects it.
-- Money      is text from the caller to HINCRBY and never a Lua number.

-- include: calendar
local time = redis.call('TIME')
local account = redis.call('HMGET', KEYS[1], 'name', 'corrections')
if not account[1] or (account[2] or '0') ~= ARGV[2] or tonumber(ARGV[5]) ~= day_of(time[1] * 1000) then
  return {ARGV[1], 0}
end
redis.call('HINCRBY', KEYS[1], 'corrections', 1)
redis.call('HINCRBY', KEYS[1], 'total_tokens', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'total_nusd', ARGV[4])
redis.call('HSET', KEYS[1], 'day', ARGV[5], 'day_tokens', ARGV[6], 'day_nusd', ARGV[7], 'month', ARGV[8], 'month_nusd', ARGV[9])
return {ARGV[1], 1}
