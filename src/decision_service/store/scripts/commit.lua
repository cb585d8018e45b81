#!lua
-- One atomic change of one customer, only if nothing changed since it was read.
--
-- KEYS   1 meta hash · 2 event log · 3 outbox stream · 4 hash of waiting links · 5 marker of the partition ·
--        6 decision frame (optional), all of one partition
-- ARGV   1 expected version, decimal; for a customer never heard of "0:" and the epoch that the marker must hold
--        2 log that replaces the stored one, header included, or ""
--        3 records to append, or ""
--        4 header of an empty log, used where none is stored yet
--        5 decision frame, or ""
--        6 id of the links that now wait to be appended to entity logs, or "" · 7 the links
--        8 n, then n arguments: field, value, field, value ... of the meta hash
--        then for each outbox entry: m, then m arguments: field, value, field, value ...
-- REPLY  the new version; or nothing written and the error VERSION <current>, or EPOCH where the marker is missing or
--        another: whether the customer is new or forgotten cannot be told
-- COST   O(arguments) + O(1) a command; an append costs the bytes appended, not the log
--
-- A script that fails half-way keeps what it wrote, so everything that can fail is asked first: the commands below
-- the line cannot fail for the types and the memory checked above it (memory, disk and replicas are checked by the
-- server before a script without flags starts). The frame is the first thing written, and only where there is none:
-- that it was there already is found out with nothing written. No number of ours passes through a Lua double: versions
-- are compared as text and moved by HINCRBY, the rest is opaque bytes.

local meta, log, outbox, waiting, frame = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]

local version, expected = redis.call('HGET', meta, 'v'), ARGV[1]
if not version then
  version = '0'
  if expected:sub(1, 2) == '0:' then
    if redis.call('GET', KEYS[5]) ~= expected:sub(3) then
      return redis.error_reply('EPOCH the partition lost its history')
    end
    expected = '0'
  end
end
if version ~= expected then
  return redis.error_reply('VERSION ' .. version)
end
local stored = redis.call('STRLEN', log)
if stored % 64 ~= 0 or #ARGV[2] % 64 ~= 0 or #ARGV[3] % 64 ~= 0 then
  return redis.error_reply('TORNLOG a log is whole records of 64 bytes')
end
redis.call('XLEN', outbox)
if ARGV[6] ~= '' then
  redis.call('HLEN', waiting)
end

---------------------------------------------------------------------------------------------------------------------

if frame and not redis.call('SET', frame, ARGV[5], 'NX') then
  return redis.error_reply('VERSION ' .. version .. ' decision exists')
end

local moved = redis.call('HINCRBY', meta, 'v', 1)

if ARGV[2] ~= '' then
  redis.call('SET', log, ARGV[2] .. ARGV[3])
elseif ARGV[3] ~= '' then
  if stored == 0 then
    redis.call('SET', log, ARGV[4] .. ARGV[3])
  else
    redis.call('APPEND', log, ARGV[3])
  end
end

if ARGV[6] ~= '' then
  redis.call('HSET', waiting, ARGV[6], ARGV[7])
end

local at = 9 + tonumber(ARGV[8])
if at > 9 then
  redis.call('HSET', meta, unpack(ARGV, 9, at - 1))
end

while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call('XADD', outbox, '*', unpack(ARGV, at + 1, last))
  at = last + 1
end

return moved
