#!lua
-- Stores a new account, unless its name is taken.
--
-- State      KEYS[1] account, hash. KEYS[2] the shard's accounts, set of names
-- Arguments  the record as field, value, …; the first value is the name
-- Reply      1 created, 0 the name is taken
-- Atomic     two commands of two people with one name: one of them is told.
if redis.call('HEXISTS', KEYS[1], 'version') == 1 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV))
redis.call('SADD', KEYS[2], ARGV[2])
return 1
