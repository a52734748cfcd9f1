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
-- Arguments  1 the request's lease "<id> <tokens> <nUSD>"
--            2 numbers, packed as doubles, which are read at once: account version (one that no account has, if the gateway
--              knows that it is disabled), lease ms; limits, infinite if there is none: requests/min, tokens/min, concurrent,
--              tokens/day, budget of the day, nUSD, of the month, in total; tokens held, nUSD held
-- Reply      the lease and, packed behind it as integers of 8 bytes: requests left, reset ms, tokens left, reset ms, and what the
--             hold leaves of the day's tokens and, in nUSD, of the scarcest budget (-1: no such limit, or admitted before)
--                                                                                                                admitted
--            {lease, 1, requests left, reset ms, tokens left, reset ms, limit, left, wait ms (-1: waiting will not help),
--             period (of a budget, else empty), 1 if leases that ran out were in the way and have been freed: ask again}
--                                                                                                           limit reached
--            {lease, 2, 'unknown' | 'revoked' | 'expired' | 'disabled'}                                     key refused
--            {lease, 3, name, plan, disabled, version, created, overrides}                                  another version
-- Atomic     nothing is taken before every limit has agreed. What is written besides, when one has not: leases that ran out are
--            freed, and what a clock that was set back has pushed ahead is pulled in.
-- Leases     that ran out hold what they held until somebody is refused because of it, or a key is used for the first time in a
--            minute: to look for them costs every request, and there are none as long as no gateway dies.
-- Clock      the server's own, so that any number of gateways agree.
-- Repeating  a request whose lease is there was admitted already: it is admitted again and nothing is taken.
-- Money      see money.lua
-- Changes    gateways of two releases may share a store: add fields at the end, never give one a new meaning. Arguments and
--            reply belong to the release whose script this is.
-- Speed      every request pays for this. One call of the server for each thing that is read or written, with no field more
--            than is needed: a field costs as much as twenty lines here. What is needed seldom is read and made where it is
--            needed. Numbers are compared and rounded (n - n % 1) in place: a call of `math` costs five times as much.

-- include: rates
-- include: money
-- include: used
local call, NONE, ADMITTED = redis.call, math.huge, '<c0i8i8i8i8i8i8'
local lease = ARGV[1]
local version, lease_ms, per_minute, tokens_per_minute, concurrent, per_day, day_budget, month_budget, budget, tokens, nusd =
  struct.unpack('<ddddddddddd', ARGV[2])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = (now - now % 1000) / 1000

local key = call('HMGET', KEYS[1], 'revoked', 'expires', 'last_used')
local account = call('HMGET', KEYS[2], 'version', 'requests_tat', 'tokens_tat', 'held_tokens', 'held_nusd',
  'day', 'total_tokens', 'day_tokens', 'total_nusd', 'day_nusd', 'month_nusd')
if not account[1] or not key[3] and call('EXISTS', KEYS[1]) == 0 then
  return {lease, 2, 'unknown'}
elseif number(key[1]) > 0 then
  return {lease, 2, 'revoked'}
elseif number(key[2]) > 0 and number(key[2]) <= now_ms then
  return {lease, 2, 'expired'}
elseif account[1] + 0 ~= version then
  -- An account is disabled and enabled under a new version: there is nothing to look for under the one that is known.
  local record = call('HMGET', KEYS[2], 'name', 'plan', 'disabled', 'version', 'created', 'overrides')
  if record[3] == '1' then
    return {lease, 2, 'disabled'}
  end
  return {lease, 3, unpack(record)}
end

-- What each limit says: a rate how long to wait (nil: for ever), the others what they have left after this request.
local requests_tat, tokens_tat = (account[2] or 0) + 0, (account[3] or 0) + 0
local requests_after, tokens_after, requests_wait, tokens_wait = requests_tat, tokens_tat, 0, 0
if per_minute < NONE then
  requests_tat, requests_after, requests_wait = take(requests_tat, now, per_minute, 1)
end
if tokens_per_minute < NONE then
  tokens_tat, tokens_after, tokens_wait = take(tokens_tat, now, tokens_per_minute, tokens)
end
local room = concurrent < NONE and concurrent - call('ZCARD', KEYS[3]) or 1
local held_tokens, held_nusd = (account[4] or 0) + tokens, (account[5] or 0) + nusd
local tokens_today, today, this_month, ever =
  used(KEYS[2], now_ms, account[6], account[7], account[8], account[9], account[10], account[11])
local day_left = per_day - (tokens_today + held_tokens)
local budget_left = budget - (ever + held_nusd)
local left_today, left_this_month = day_budget - (today + held_nusd), month_budget - (this_month + held_nusd)
if left_today < budget_left then
  budget_left = left_today
end
if left_this_month < budget_left then
  budget_left = left_this_month
end

if requests_wait == 0 and tokens_wait == 0 and room > 0 and day_left >= 0 and budget_left >= 0
  and call('ZADD', KEYS[3], 'NX', now_ms + lease_ms, lease) == 1 then
  if held_nusd < EXACT then
    call('HSET', KEYS[2], 'requests_tat', requests_after, 'tokens_tat', tokens_after, 'held_tokens', held_tokens,
      'held_nusd', held_nusd)
  else
-- include: leases
    call('HSET', KEYS[2], 'requests_tat', requests_after, 'tokens_tat', tokens_after)
    hold(KEYS[2], lease)
  end
  if now_ms - number(key[3]) >= 60000 then
-- include: leases
    call('HSET', KEYS[1], 'last_used', now_ms)
    free_expired(KEYS[2], KEYS[3], KEYS[4], now_ms)
  end
  local requests_left, requests_reset = level(requests_after, now, per_minute)
  local tokens_left, tokens_reset = level(tokens_after, now, tokens_per_minute)
  return struct.pack(ADMITTED, lease, requests_left, requests_reset, tokens_left, tokens_reset,
    day_left < NONE and day_left or -1, budget_left < NONE and budget_left or -1)
end

-- include: calendar
-- include: leases
if requests_tat < number(account[2]) then
  call('HSET', KEYS[2], 'requests_tat', requests_tat)
end
if tokens_tat < number(account[3]) then
  call('HSET', KEYS[2], 'tokens_tat', tokens_tat)
end
local requests_left, requests_reset = level(requests_tat, now, per_minute)
local tokens_left, tokens_reset = level(tokens_tat, now, tokens_per_minute)
if call('ZSCORE', KEYS[3], lease) then
  return struct.pack(ADMITTED, lease, requests_left, requests_reset, tokens_left, tokens_reset, -1, -1)
end
-- A clock that was set back leaves leases that would outlive their gateway by as much.
local astray = call('ZRANGEBYSCORE', KEYS[3], now_ms + lease_ms + 1000, '+inf', 'LIMIT', 0, AT_ONCE)
for _, member in ipairs(astray) do
  call('ZADD', KEYS[3], now_ms + lease_ms, member)
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
  if spent + held <= allowed then
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
  refuse('tokens_per_minute', tokens_left, tokens_wait or math.huge)
end
if room <= 0 then
  refuse('concurrent_requests', room, 1000)
end
ceiling('tokens_per_day', per_day, tokens_today, held_tokens, tokens, 'day')
ceiling('budget', day_budget, today, held_nusd, nusd, 'day')
ceiling('budget', month_budget, this_month, held_nusd, nusd, 'month')
ceiling('budget', budget, ever, held_nusd, nusd, 'total')
local freed = free_expired(KEYS[2], KEYS[3], KEYS[4], now_ms)
return {lease, 1, requests_left, requests_reset, tokens_left, tokens_reset, limit, left,
  wait == math.huge and -1 or wait, of_period, freed > 0 and 1 or 0}
