#!lua
-- Take the lease of a place, or keep it.
--
-- KEYS   1 lease · 2 head · 3 marker (only of a partition)
-- ARGV   1 owner · 2 how long the lease lasts, ms · 3 epoch that the marker must hold
-- REPLY  nil while another owner has it; else array: fence, position, hash, stream id, path of the head, nil where none
--        is; or the error EPOCH where the marker is missing or another: the head may be lost
-- COST   O(1)
--
-- A lease is "<fence> <owner>". One that says another fence than the head (which is lost then) is nobody's.
local lease, head = KEYS[1], KEYS[2]
if KEYS[3] and redis.call('GET', KEYS[3]) ~= ARGV[3] then
  return redis.error_reply('EPOCH the partition lost its history')
end
local fence = redis.call('HGET', head, 'fence')
local held = redis.call('GET', lease)
if held and fence == held:match('^%d+') then
  if held:match('^%d+ (.*)$') ~= ARGV[1] then
    return false
  end
  redis.call('PEXPIRE', lease, ARGV[2])
else
  redis.call('HINCRBY', head, 'fence', 1)
  redis.call('SET', lease, redis.call('HGET', head, 'fence') .. ' ' .. ARGV[1], 'PX', ARGV[2])
end
return redis.call('HMGET', head, 'fence', 'position', 'hash', 'last', 'path')
