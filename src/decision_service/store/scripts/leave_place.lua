#!lua
-- Give a place back.
--
-- KEYS   1 lease
-- ARGV   1 owner
-- REPLY  1 if it was this owner's, else 0
-- COST   O(1)
local held = redis.call('GET', KEYS[1])
if held and held:match('^%d+ (.*)$') == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
