#!lua flags=allow-oom
-- Tells how much of its limits an account has used.
--
-- State      KEYS[1] account, hash: the counters that admit.lua describes. KEYS[2] leases, KEYS[3] late: see leases.lua
-- Arguments  1 account  2 requests/min, empty if not limited  3 tokens/min, empty if not limited
-- Reply      {account, now ms, requests left, reset ms, tokens left, reset ms, in flight, tokens used today, tokens held,
--             nUSD held, nUSD settled ever, nUSD when the day began, nUSD when the month began, the day's end ms, the month's,
--             1 if more leases may have run out than could be freed at once: ask again}
-- Atomic     writes nothing but freed leases.
-- Money      is handed out as the text that is stored: a Lua number would lose digits.

-- include: rates
-- include: calendar
-- include: money
-- include: leases
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)
local freed = free_expired(KEYS[1], KEYS[2], KEYS[3], now_ms)
local account = redis.call('HMGET', KEYS[1], 'requests_tat', 'tokens_tat', 'held_tokens', 'held_nusd',
  'day', 'month', 'total_tokens', 'day_tokens', 'total_nusd', 'day_nusd', 'month_nusd')
for i = 1, 11 do
  account[i] = account[i] or '0'
end

local requests_left, requests_reset, tokens_left, tokens_reset = 0, 0, 0, 0
if ARGV[2] ~= '' then
  requests_left, requests_reset = level(tonumber(account[1]), now, tonumber(ARGV[2]))
end
if ARGV[3] ~= '' then
  tokens_left, tokens_reset = level(tonumber(account[2]), now, tonumber(ARGV[3]))
end

local today = tonumber(account[5]) == day_of(now_ms)
local this_month = tonumber(account[6]) == month_of(now_ms)
return {ARGV[1], now_ms, requests_left, requests_reset, tokens_left, tokens_reset, redis.call('ZCARD', KEYS[2]),
  today and tonumber(account[7]) - tonumber(account[8]) or 0, tonumber(account[3]), account[4], account[9],
  today and account[10] or account[9], this_month and account[11] or account[9],
  period_ends('day', now_ms), period_ends('month', now_ms), freed == AT_ONCE and 1 or 0}
