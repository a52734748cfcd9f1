#!lua
-- Revokes a key or sets when it expires.
--
-- State      KEYS[1] key record, hash
-- Arguments  1 revoked, ms, or empty: leave  2 expires, ms, or empty: leave
-- Reply      1 done, 0 no such key
-- Atomic     a key that was revoked before keeps the moment of its first revocation, whoever comes second.
local key = redis.call('HMGET', KEYS[1], 'key_id', 'revoked')
if not key[1] then
  return 0
end
if ARGV[1] ~= '' and (not key[2] or key[2] == '') then
  redis.call('HSET', KEYS[1], 'revoked', ARGV[1])
end
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'expires', ARGV[2])
end
return 1
