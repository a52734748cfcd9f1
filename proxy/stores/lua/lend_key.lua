#!lua
-- Lets another digest stand for a key for a while.
--
-- State      KEYS[1] key record, hash, under the other digest
-- Arguments  1 until when, ms; then the record as field, value, …
-- Reply      1
-- Atomic     a record that stands for another one is never without its end.
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIREAT', KEYS[1], ARGV[1])
return 1
