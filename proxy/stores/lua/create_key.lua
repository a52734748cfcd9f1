#!lua
-- Stores a new key, and where to find it.
--
-- State      KEYS[1] key record, hash. KEYS[2] the account's keys, hash: key id -> digest.
--            KEYS[3] the shard's keys, hash: key id -> "<account> <digest>"
-- Arguments  the record as field, value, …, beginning with digest, key_id, account
-- Reply      1
-- Atomic     a key that works can be listed and revoked.
local digest, key_id, account = ARGV[2], ARGV[4], ARGV[6]
redis.call('HSET', KEYS[1], unpack(ARGV))
redis.call('HSET', KEYS[2], key_id, digest)
redis.call('HSET', KEYS[3], key_id, account .. ' ' .. digest)
return 1
