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
--             1 if more leases may have run out than could be freed at once: ask again}                     limit reached
--            {id, 2, 'unknown' | 'revoked' | 'expired' | 'disabled'}                                        key refused
--            {id, 3, name, plan, disabled, version, created, overrides}                                     another version
-- Atomic     nothing is taken before every limit has agreed. What is written besides: leases that ran out are freed, and what a
--            clock that was set back has pushed ahead is pulled in.
-- Clock      the server's own, so that any number of gateways agree.
-- Repeating  a request whose lease is there was admitted already: it is admitted again and nothing is taken.
-- Money      is added as text; Lua numbers only compare it.
-- Changes    gateways of two releases may share a store: add arguments and fields at the end, never give one a new meaning.

-- include: rates
-- include: calendar
-- include: leases
-- include: used
local id, lease = ARGV[1], ARGV[2]
local tokens, lease_ms = tonumber(ARGV[3]), tonumber(ARGV[6])
local per_minute, tokens_per_minute = tonumber(ARGV[7]), tonumber(ARGV[8])
local concurrent, per_day = tonumber(ARGV[9]), tonumber(ARGV[10])

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

local freed = free_expired(KEYS[2], KEYS[3], KEYS[4], now_ms)
if freed > 0 then
  account[5], account[6] = unpack(redis.call('HMGET', KEYS[2], 'held_tokens', 'held_nusd'))
end
local requests_tat, tokens_tat, held_tokens = number(account[3]), number(account[4]), number(account[5])
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

-- Of the limits that refuse, the one with the longest wait is told: waiting for another would only lead to this one.
local limit, left, wait, of_period
local function refuse(which, what_is_left, how_long, period)
  if not limit or how_long > wait then
    limit, left, wait, of_period = which, math.max(what_is_left, 0), how_long, period or ''
  end
end

local requests_after, tokens_after, from, ms
if per_minute then
  from, requests_after, ms = take(requests_tat, now, per_minute, 1)
  if from < requests_tat then
    requests_tat = from
    redis.call('HSET', KEYS[2], 'requests_tat', moment(from))
  end
  if ms > 0 then
    refuse('requests_per_minute', 0, ms)
  end
end
if tokens_per_minute then
  from, tokens_after, ms = take(tokens_tat, now, tokens_per_minute, tokens)
  if from < tokens_tat then
    tokens_tat = from
    redis.call('HSET', KEYS[2], 'tokens_tat', moment(from))
  end
  if ms ~= 0 then
    refuse('tokens_per_minute', level(tokens_tat, now, tokens_per_minute), ms or math.huge)
  end
end
if concurrent then
  local in_flight = redis.call('ZCARD', KEYS[3])
  if in_flight >= concurrent then
    refuse('concurrent_requests', concurrent - in_flight, 1000)
  end
end

-- An exact ceiling: what was used, what is held, and this hold. Where only holds of others are in the way, a second may do;
-- where it is what was used, only the next period will; and a hold that is larger than all of it never passes.
local function ceiling(which, allowed, spent, held, asked, period)
  if spent + held + asked <= allowed then
    return allowed - spent - held - asked
  end
  local how_long = math.huge
  if asked <= allowed then
    how_long = spent + asked <= allowed and 1000 or period_ends(period, now_ms) - now_ms
  end
  refuse(which, allowed - spent - held, how_long, which == 'budget' and period)
end
local tokens_today, today, this_month, ever = used(now_ms, unpack(account, 7))
local day_left, budget_left
if per_day then
  day_left = ceiling('tokens_per_day', per_day, tokens_today, held_tokens, tokens, 'day')
end
local held_nusd, nusd = number(account[6]), tonumber(ARGV[4])
local function budget(allowed, spent, period)
  if allowed ~= '' then
    local left_of_it = ceiling('budget', tonumber(allowed), spent, held_nusd, nusd, period)
    budget_left = math.min(left_of_it or -1, budget_left or math.huge)
  end
end
budget(ARGV[11], today, 'day')
budget(ARGV[12], this_month, 'month')
budget(ARGV[13], ever, 'total')

if limit then
  if redis.call('ZSCORE', KEYS[3], lease) then
    return reply(0)
  end
  -- A clock that was set back leaves leases that would outlive their gateway by as much.
  local astray = redis.call('ZRANGEBYSCORE', KEYS[3], now_ms + lease_ms + 1000, '+inf', 'LIMIT', 0, AT_ONCE)
  for _, member in ipairs(astray) do
    redis.call('ZADD', KEYS[3], now_ms + lease_ms, member)
  end
  return reply(1, limit, left, wait == math.huge and -1 or wait, of_period, freed == AT_ONCE and 1 or 0)
end
if redis.call('ZADD', KEYS[3], 'NX', now_ms + lease_ms, lease) == 0 then
  return reply(0)
end
requests_tat, tokens_tat = requests_after or requests_tat, tokens_after or tokens_tat
redis.call('HSET', KEYS[2], 'requests_tat', moment(requests_tat), 'tokens_tat', moment(tokens_tat),
  'held_tokens', held_tokens + tokens)
add(KEYS[2], 'held_nusd', ARGV[4])
if now_ms - number(key[4]) >= 60000 then
  redis.call('HSET', KEYS[1], 'last_used', now_ms)
end
return reply(0, day_left or -1, budget_left or -1)
