#!lua
-- Put a value on a list or take it off; the lists' version moves, and the outbox tells of it, only if that changed
-- anything.
--
-- KEYS   1 version counter · 2 entries hash · 3 outbox stream of the lists
-- ARGV   1 entry "<list> NUL <value>" · 2 "1" to put on, "0" to take off · 3 list · 4 value · 5 who did it
-- REPLY  1 if something changed, else 0
-- COST   O(1)
redis.call('STRLEN', KEYS[1])
redis.call('XLEN', KEYS[3])
local changed
if ARGV[2] == '1' then
  changed = redis.call('HSETNX', KEYS[2], ARGV[1], '')
else
  changed = redis.call('HDEL', KEYS[2], ARGV[1])
end
if changed == 1 then
  redis.call('INCR', KEYS[1])
  redis.call('XADD', KEYS[3], '*', 'kind', 'list', 'list', ARGV[3], 'value', ARGV[4], 'present', ARGV[2],
    'version', redis.call('GET', KEYS[1]), 'by', ARGV[5])
end
return changed
