#!lua
-- Put a value on a list or take it off; the lists' version moves only if that changed anything.
--
-- KEYS   1 version counter · 2 entries hash
-- ARGV   1 entry "<list> NUL <value>" · 2 "1" to put on, "0" to take off
-- REPLY  1 if something changed, else 0
-- COST   O(1)
redis.call('STRLEN', KEYS[1])
local changed
if ARGV[2] == '1' then
  changed = redis.call('HSETNX', KEYS[2], ARGV[1], '')
else
  changed = redis.call('HDEL', KEYS[2], ARGV[1])
end
if changed == 1 then
  redis.call('INCR', KEYS[1])
end
return changed
