#!lua flags=allow-oom
-- Asks, when a connection is made: may this user run scripts, and may they write here?
--
-- State      KEYS[1], a string that expires by itself. Nobody reads it.
-- Arguments  none.
-- Reply      1; the error of a server that would also refuse the other scripts (a replica, a full disk, rights that are missing).
-- Why        a PING is answered by servers that can do nothing else. A server out of memory passes (allow-oom): it refuses new
--            requests one by one, but requests under way must be settled.
redis.call('SET', KEYS[1], '1', 'PX', 1000)
return 1
