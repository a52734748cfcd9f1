#!lua
-- Stores an account's plan, state and limits under a new version.
--
-- State      KEYS[1] account, hash
-- Arguments  the record as field, value, …; only plan, disabled, overrides and the version that the caller has seen are used
-- Reply      the record's values as they are now (name, plan, disabled, version, created, overrides); nil: no such account
-- Atomic     nothing is written over a version that the caller has not seen: of two changes at the same moment the second
--            gets the record as the first left it, and neither is lost. The version grows in the same step: a gateway with
--            an older copy learns of it at its next admission.
local version = redis.call('HGET', KEYS[1], 'version')
if not version then
  return false
end
local fields = {}
for i = 1, #ARGV, 2 do
  fields[ARGV[i]] = ARGV[i + 1]
end
if fields.version == version then
  redis.call('HSET', KEYS[1], 'plan', fields.plan, 'disabled', fields.disabled, 'overrides', fields.overrides)
  redis.call('HINCRBY', KEYS[1], 'version', 1)
end
return redis.call('HMGET', KEYS[1], 'name', 'plan', 'disabled', 'version', 'created', 'overrides')
