#!lua
-- Admits a request: the key is good, every limit of its account has room, the hold is taken. All or nothing.
--
-- State      KEYS[1] key record, hash: key_id, revoked, expires, last_used (ms; empty or missing: not)
--            KEYS[2] account, hash: the record (name, plan, disabled, version, created, overrides) and its counters:
--                    requests_tat, tokens_tat   µs, see rates.lua
--                    held_tokens, held_nusd     of all leases
--                    total_tokens, total_nusd   settled, ever
--                    day, month                 the last ones in which something was settled, see calendar.lua
--                    day_tokens, day_nusd       where the totals stood when that day began; what was used since is the
--                    month_nusd                 difference, and the same for the month
--            KEYS[3] leases, KEYS[4] late: sorted sets, see leases.lua
-- Arguments  1 request id  2 its lease "<id> <tokens> <nUSD>"  3 tokens held  4 nUSD held  5 account version  6 lease, ms
--            limits, empty if there is none: 7 requests/min  8 tokens/min  9 concurrent  10 tokens/day
--            11 budget of the day, nUSD  12 of the month  13 in total
-- Reply      {id, 0, requests left, reset ms, tokens left, reset ms, and what the hold leaves of the day's tokens and, in nUSD,
--             of the scarcest budget (-1: no such limit); without these two if it was admitted before}       admitted
--            {id, 1, the same four, limit, left, wait ms (-1: waiting will not help), period (of a budget, else empty),
--             1 if leases that ran out were in the way and have been freed: ask again}                      limit reached
--            {id, 2, 'unknown' | 'revoked' | 'expired' | 'disabled'}                                        key refused
--            {id, 3, name, plan, disabled, version, created, overrides}                                     another version
-- Atomic     nothing is taken before every limit has agreed. What is written besides, when one has not: leases that ran out are
--            freed, and what a clock that was set back has pushed ahead is pulled in.
-- Leases     that ran out hold what they held until somebody is refused because of it, or a key is used for the first time in a
--            minute: to look for them costs every request, and there are none as long as no gateway dies.
-- Clock      the server's own, so that any number of gateways agree.
-- Repeating  a request whose lease is there was admitted already: it is admitted again and nothing is taken.
-- Money      see money.lua
-- Changes    gateways of two releases may share a store: add arguments and fields at the end, never give one a new meaning.

-- Speed      every request pays for this: one call of the server for each thing that is read or written, and functions that
--            are needed seldom are made where they are needed.

-- include: rates
-- include: money
-- include: used
local id, lease = ARGV[1], ARGV[2]
local tokens, nusd = ARGV[3] + 0, ARGV[4] + 0
local per_minute, tokens_per_minute = tonumber(ARGV[7]), tonumber(ARGV[8])
local concurrent, per_day = tonumber(ARGV[9]), tonumber(ARGV[10])
local day_budget, month_budget, budget = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)

local key = redis.call('HMGET', KEYS[1], 'key_id', 'revoked', 'expires', 'last_used')
local account = redis.call('HMGET', KEYS[2], 'version', 'disabled', 'requests_tat', 'tokens_tat', 'held_tokens', 'held_nusd',
  'day', 'month', 'total_tokens', 'day_tokens', 'total_nusd', 'day_nusd', 'month_nusd')
if not key[1] or not account[1] then
  return {id, 2, 'unknown'}
elseif number(key[2]) > 0 then
  return {id, 2, 'revoked'}
elseif number(key[3]) > 0 and number(key[3]) <= now_ms then
  return {id, 2, 'expired'}
elseif account[2] == '1' then
  return {id, 2, 'disabled'}
elseif account[1] ~= ARGV[5] then
  return {id, 3, unpack(redis.call('HMGET', KEYS[2], 'name', 'plan', 'disabled', 'version', 'created', 'overrides'))}
end

-- What each limit says: a rate how long to wait (nil: for ever), the others what they have left after this request.
local requests_tat, tokens_tat = (account[3] or 0) + 0, (account[4] or 0) + 0
local requests_after, tokens_after, requests_wait, tokens_wait = requests_tat, tokens_tat, 0, 0
if per_minute then
  requests_tat, requests_after, requests_wait = take(requests_tat, now, per_minute, 1)
end
if tokens_per_minute then
  tokens_tat, tokens_after, tokens_wait = take(tokens_tat, now, tokens_per_minute, tokens)
end
local room = concurrent and concurrent - redis.call('ZCARD', KEYS[3]) or 1
local held_tokens, held_nusd = (account[5] or 0) + tokens, (account[6] or 0) + nusd
local tokens_today, today, this_month, ever = used(now_ms, unpack(account, 7))
local day_left = per_day and per_day - (tokens_today + held_tokens)
local budget_left = math.min(
  day_budget and day_budget - (today + held_nusd) or math.huge,
  month_budget and month_budget - (this_month + held_nusd) or math.huge,
  budget and budget - (ever + held_nusd) or math.huge)

local function reply(code, ...)
  local requests_left, requests_reset, tokens_left, tokens_reset = 0, 0, 0, 0
  if per_minute then
    requests_left, requests_reset = level(requests_tat, now, per_minute)
  end
  if tokens_per_minute then
    tokens_left, tokens_reset = level(tokens_tat, now, tokens_per_minute)
  end
  return {id, code, requests_left, requests_reset, tokens_left, tokens_reset, ...}
end

if requests_wait == 0 and tokens_wait == 0 and room > 0 and (not day_left or day_left >= 0) and budget_left >= 0 then
  if redis.call('ZADD', KEYS[3], 'NX', now_ms + ARGV[6], lease) == 0 then
    return reply(0)
  end
  requests_tat, tokens_tat = requests_after, tokens_after
  if held_nusd < EXACT then
    redis.call('HSET', KEYS[2], 'requests_tat', requests_tat, 'tokens_tat', tokens_tat, 'held_tokens', held_tokens,
      'held_nusd', held_nusd)
  else
    redis.call('HSET', KEYS[2], 'requests_tat', requests_tat, 'tokens_tat', tokens_tat, 'held_tokens', held_tokens)
    add(KEYS[2], 'held_nusd', ARGV[4])
  end
  if now_ms - number(key[4]) >= 60000 then
-- include: leases
    redis.call('HSET', KEYS[1], 'last_used', now_ms)
    free_expired(KEYS[2], KEYS[3], KEYS[4], now_ms)
  end
  return reply(0, day_left or -1, budget_left < math.huge and budget_left or -1)
end

-- include: calendar
-- include: leases
if requests_tat < number(account[3]) then
  redis.call('HSET', KEYS[2], 'requests_tat', requests_tat)
end
if tokens_tat < number(account[4]) then
  redis.call('HSET', KEYS[2], 'tokens_tat', tokens_tat)
end
if redis.call('ZSCORE', KEYS[3], lease) then
  return reply(0)
end
-- A clock that was set back leaves leases that would outlive their gateway by as much.
local astray = redis.call('ZRANGEBYSCORE', KEYS[3], now_ms + ARGV[6] + 1000, '+inf', 'LIMIT', 0, AT_ONCE)
for _, member in ipairs(astray) do
  redis.call('ZADD', KEYS[3], now_ms + ARGV[6], member)
end

-- Of the limits that refuse, the one with the longest wait is told: waiting for another would only lead to this one.
local limit, left, wait, of_period
local function refuse(which, what_is_left, how_long, period)
  if not limit or how_long > wait then
    limit, left, wait, of_period = which, math.max(what_is_left, 0), how_long, period or ''
  end
end
-- Where only holds of others are in the way, a second may do; where it is what was used, only the next period will; and a hold
-- that is larger than all of it never passes.
local function ceiling(which, allowed, spent, held, asked, period)
  if not allowed or spent + held <= allowed then
    return
  end
  local how_long = math.huge
  if asked <= allowed then
    how_long = spent + asked <= allowed and 1000 or period_ends(period, now_ms) - now_ms
  end
  refuse(which, allowed - (spent + held - asked), how_long, which == 'budget' and period)
end
if requests_wait ~= 0 then
  refuse('requests_per_minute', 0, requests_wait or math.huge)
end
if tokens_wait ~= 0 then
  refuse('tokens_per_minute', level(tokens_tat, now, tokens_per_minute), tokens_wait or math.huge)
end
if room <= 0 then
  refuse('concurrent_requests', room, 1000)
end
ceiling('tokens_per_day', per_day, tokens_today, held_tokens, tokens, 'day')
ceiling('budget', day_budget, today, held_nusd, nusd, 'day')
ceiling('budget', month_budget, this_month, held_nusd, nusd, 'month')
ceiling('budget', budget, ever, held_nusd, nusd, 'total')
local freed = free_expired(KEYS[2], KEYS[3], KEYS[4], now_ms)
return reply(1, limit, left, wait == math.huge and -1 or wait, of_period, freed > 0 and 1 or 0)
