#!lua
-- Add to the counts of a series on a day.
--
-- KEYS   1 hash of the counts · 2 sorted set of "<series> NUL <day>" by day
-- ARGV   1 member of the sorted set · 2 its day · 3 the oldest day that is kept · 4 how long the hash is kept, ms ·
--        then field and increment in turn
-- REPLY  how many members were forgotten
-- COST   O(increments + forgotten)
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])

---------------------------------------------------------------------------------------------------------------------

for i = 5, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[3])
