#!lua flags=allow-oom
-- Counts the gateways: each worker of each gateway says every few seconds that it is there.
--
-- State      KEYS[1] sorted set: a member per worker, its score the ms when it was last heard
-- Arguments  1 the worker's name  2 for how many ms it counts after it was heard
-- Reply      {name, how many there are, this one included}
-- Atomic     those that have not been heard for so long go in the same step, so that the number is of one moment.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now_ms, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms - tonumber(ARGV[2]))
return {ARGV[1], redis.call('ZCARD', KEYS[1])}
