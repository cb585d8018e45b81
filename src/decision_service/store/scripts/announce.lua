#!lua
-- Renew what a worker says of itself, and forget the workers that stopped saying anything.
--
-- KEYS   1 status hash · 2 sorted set of worker ids by the instant they were last seen
-- ARGV   1 worker id · 2 status · 3 seen at, ms UTC · 4 instant in ms UTC before which others are forgotten
-- REPLY  how many were forgotten
-- COST   O(log workers + forgotten)
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
local silent = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[4], 'LIMIT', 0, 1000)
if #silent > 0 then
  redis.call('ZREM', KEYS[2], unpack(silent))
  redis.call('HDEL', KEYS[1], unpack(silent))
end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return #silent
