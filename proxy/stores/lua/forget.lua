#!lua flags=allow-oom
-- Forgets settlements that the ledger knows.
--
-- State      KEYS[1] charged, list: see settle.lua
-- Arguments  1 a name for the reply  2… the entries, at most 100 per call
-- Reply      {name, how many were there}
-- Speed      the oldest stand first, and these are the ones that arrive: each is found at once, unless somebody else was faster.
local forgotten = 0
for i = 2, #ARGV do
  forgotten = forgotten + redis.call('LREM', KEYS[1], 1, ARGV[i])
end
return {ARGV[1], forgotten}
