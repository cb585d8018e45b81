#!lua
-- One atomic change of one customer, only if nothing changed since it was read.
--
-- KEYS   1 meta hash · 2 event log · 3 outbox stream · 4 hash of waiting links · 5 marker of the partition ·
--        6 decision frame (optional), all of one partition
-- ARGV   1 expected version, decimal; for a customer never heard of "0:" and the epoch that the marker must hold
--        2 the version that this makes, decimal
--        3 log that replaces the stored one, header included, or ""
--        4 records to append, or ""
--        5 decision frame, or ""
--        6 id of the links that now wait to be appended to entity logs, or "" · 7 the links
--        8 n, then n arguments: field, value, field, value ... that only the outbox entry has
--        then field, value, field, value ... of the meta hash, which the outbox entry has, too
-- REPLY  the new version; or nothing written and the error VERSION <current>, or EPOCH where the marker is missing or
--        another: whether the customer is new or forgotten cannot be told
-- COST   O(arguments) + O(1) a command; an append costs the bytes appended, not the log
--
-- The outbox entry is drawn in store/changes.py; what of it stands in keys and other arguments is not sent again. Keys
-- of a customer begin with 13 bytes, "ds:{p0042}:m:", and so do those of a decision.
--
-- A script that fails half-way keeps what it wrote, so everything that can fail is asked first: the commands below
-- the line cannot fail for the types and the memory checked above it (memory, disk and replicas are checked by the
-- server before a script without flags starts). The frame is the first thing written, and only where there is none:
-- that it was there already is found out with nothing written. No number of ours passes through a Lua double: versions
-- are compared as text and moved by HINCRBY, the rest is opaque bytes.

local EMPTY_LOG = '{EMPTY_LOG}' -- header of a log without records; put in where this file is loaded
local ID = 14 -- where in a key the id begins

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
if stored % 64 ~= 0 or #ARGV[3] % 64 ~= 0 or #ARGV[4] % 64 ~= 0 then
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

if ARGV[3] ~= '' then
  redis.call('SET', log, ARGV[3] .. ARGV[4])
elseif ARGV[4] ~= '' then
  if stored == 0 then
    redis.call('SET', log, EMPTY_LOG .. ARGV[4])
  else
    redis.call('APPEND', log, ARGV[4])
  end
end

if ARGV[6] ~= '' then
  redis.call('HSET', waiting, ARGV[6], ARGV[7])
end

local changed = 9 + tonumber(ARGV[8])
if changed <= #ARGV then
  redis.call('HSET', meta, unpack(ARGV, changed))
end

if frame then
  redis.call('XADD', outbox, '*', 'kind', 'decision', 'id', frame:sub(ID), 'customer', meta:sub(ID),
    'version', ARGV[2], 'records', ARGV[4], unpack(ARGV, 9))
else
  redis.call('XADD', outbox, '*', 'kind', 'change', 'customer', meta:sub(ID),
    'version', ARGV[2], 'records', ARGV[4], unpack(ARGV, 9))
end

return moved
