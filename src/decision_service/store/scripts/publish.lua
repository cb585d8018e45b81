#!lua
-- Append a published policy under the next number, only if nobody published since the caller looked.
--
-- KEYS   1 number of the newest · 2 heads by number · 3 bundles by number · 4 highest serial · 5 outbox stream of the
--        published policies
-- ARGV   1 number the caller knows as the newest, decimal ("0" for none) · 2 head · 3 bundle · 4 how many are kept ·
--        5 serial, decimal ("0" for none)
-- REPLY  the new number, or the error VERSION <newest> and nothing written
-- COST   O(bytes of head and bundle)
local newest = redis.call('GET', KEYS[1]) or '0'
if newest ~= ARGV[1] then
  return redis.error_reply('VERSION ' .. newest)
end
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('XLEN', KEYS[5])
local serial = redis.call('GET', KEYS[4]) or '0'

---------------------------------------------------------------------------------------------------------------------

local number = redis.call('INCR', KEYS[1])
redis.call('HSET', KEYS[2], number, ARGV[2])
redis.call('HSET', KEYS[3], number, ARGV[3])
if tonumber(ARGV[5]) > tonumber(serial) then
  redis.call('SET', KEYS[4], ARGV[5])
end
redis.call('XADD', KEYS[5], '*', 'kind', 'policy', 'number', number, 'head', ARGV[2])
local gone = number - tonumber(ARGV[4])
if gone > 0 then
  redis.call('HDEL', KEYS[2], gone)
  redis.call('HDEL', KEYS[3], gone)
end
return number
