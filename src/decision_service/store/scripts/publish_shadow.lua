#!lua
-- Put a policy in shadow on every worker, in the place of an earlier one.
--
-- KEYS   1 number of what is in shadow · 2 its head · 3 its bundle · 4 the highest number there was
-- ARGV   1 head · 2 bundle
-- REPLY  its number
-- COST   O(bytes of head and bundle)
local number = redis.call('INCR', KEYS[4])
redis.call('MSET', KEYS[1], number, KEYS[2], ARGV[1], KEYS[3], ARGV[2])
return number
