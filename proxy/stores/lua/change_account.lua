#!lua
-- Stores an account's plan, state and limits under a new version.
--
-- State      KEYS[1] account, hash
-- Arguments  the record as field, value, …; only plan, disabled and overrides are used
-- Reply      the record's values as they are now (name, plan, disabled, version, created, overrides); nil: no such account
-- Atomic     the version grows in the same step: a gateway with an older copy learns of it at its next admission.
if redis.call('HEXISTS', KEYS[1], 'version') == 0 then
  return false
end
for i = 1, #ARGV, 2 do
  if ARGV[i] == 'plan' or ARGV[i] == 'disabled' or ARGV[i] == 'overrides' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HINCRBY', KEYS[1], 'version', 1)
return redis.call('HMGET', KEYS[1], 'name', 'plan', 'disabled', 'version', 'created', 'overrides')
