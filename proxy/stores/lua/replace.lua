#!lua
-- Puts a whole value in the place of whatever a key holds.
--
-- State      KEYS[1] the key
-- Arguments  1 a name for the reply  2 the command that fills it: HSET, SADD, ZADD, RPUSH  3 ms to live, empty: for good
--            4… the words of that command after the key; none: the key is only removed
-- Reply      {name, 1}
-- Atomic     whoever looks sees the old value or the new one, and a copy that is killed leaves no half of either.
local AT_ONCE = 1000

redis.call('DEL', KEYS[1])
for first = 4, #ARGV, AT_ONCE do
  redis.call(ARGV[2], KEYS[1], unpack(ARGV, first, math.min(first + AT_ONCE - 1, #ARGV)))
end
if ARGV[3] ~= '' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {ARGV[1], 1}
