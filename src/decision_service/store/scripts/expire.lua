#!lua
-- Let keys expire.
--
-- KEYS   those, all of one partition
-- ARGV   1 how long each is kept from now, ms
-- REPLY  how many are there
-- COST   O(keys)
local there = 0
for _, name in ipairs(KEYS) do
  there = there + redis.call('PEXPIRE', name, ARGV[1])
end
return there
