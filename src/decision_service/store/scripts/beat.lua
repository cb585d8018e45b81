#!lua
-- Count on, if this caller is the first to do so since it last looked: about once in its pause, however many do it.
--
-- KEYS   1 hash of the store
-- ARGV   1 the epoch the caller knows · 2 the beat it knows, decimal
-- REPLY  array: the epoch or nil; the beat. Nothing is counted for another epoch
-- COST   O(1)
local told = redis.call('HMGET', KEYS[1], 'epoch', 'beat')
if told[1] == ARGV[1] and (told[2] or '0') == ARGV[2] then
  return {told[1], tostring(redis.call('HINCRBY', KEYS[1], 'beat', 1))}
end
return {told[1], told[2] or '0'}
