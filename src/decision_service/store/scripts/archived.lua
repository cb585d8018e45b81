#!lua
-- Move the head of a place on, for whoever has its lease, and trim what an earlier head covered.
--
-- KEYS   1 lease · 2 head · 3 stream
-- ARGV   1 fence
--        2 position, 3 hash, 4 stream id, 5 path of the head that is expected; each as `take_place.lua` tells it, "0" and
--        "" where there is none
--        6 position, 7 hash, 8 stream id, 9 path of the new head
--        10 entries with ids below this one go, or "" · 11 how many entries the new head covers beyond the expected
-- REPLY  OK, or the error PLACE and nothing written
-- COST   O(entries that go)
--
-- The group mirrors the head. `entries-read` is what its lag is told by: it moves with the entries covered. Where it is
-- not known (the stream is not the one of the last call) it is asked what the server makes of it.
local lease, head, stream = KEYS[1], KEYS[2], KEYS[3]

local held = redis.call('GET', lease)
local found = redis.call('HMGET', head, 'fence', 'position', 'hash', 'last', 'path')
if not held or held:match('^%d+') ~= ARGV[1] or found[1] ~= ARGV[1] then
  return redis.error_reply('PLACE the lease is not held with this fence')
end
for i, unset in ipairs({'0', '', '', ''}) do
  if (found[i + 1] or unset) ~= ARGV[i + 1] then
    return redis.error_reply('PLACE the head is another')
  end
end
local length = redis.call('XLEN', stream)

local function by_name(pairs_of)
  local named = {}
  for i = 1, #pairs_of, 2 do
    named[pairs_of[i]] = pairs_of[i + 1]
  end
  return named
end

local function group()
  for _, one in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local named = by_name(one)
    if named.name == 'archive' then
      return named
    end
  end
end

-- Whether an id is behind another; ids have no leading zeros.
local function behind(id, other)
  local a_ms, a_n = id:match('^(%d+)-(%d+)$')
  local b_ms, b_n = other:match('^(%d+)-(%d+)$')
  if a_ms ~= b_ms then
    return #a_ms > #b_ms or (#a_ms == #b_ms and a_ms > b_ms)
  end
  return #a_n > #b_n or (#a_n == #b_n and a_n > b_n)
end

---------------------------------------------------------------------------------------------------------------------

redis.call('HSET', head, 'position', ARGV[6], 'hash', ARGV[7], 'last', ARGV[8], 'path', ARGV[9])
if ARGV[8] == '' then
  return redis.status_reply('OK')
end

local exists = redis.call('EXISTS', stream) == 1
local known = exists and group() or nil
if not known then
  redis.call('XGROUP', 'CREATE', stream, 'archive', '0-0', 'MKSTREAM')
  known = {['entries-read'] = ARGV[4] == '' and 0 or false}
end

local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
if not newest or behind(ARGV[8], newest[1]) then
  local last = by_name(redis.call('XINFO', 'STREAM', stream))['last-generated-id']
  if behind(ARGV[8], last) then
    redis.call('XSETID', stream, ARGV[8])
    known = {}
  end
end

if ARGV[8] ~= ARGV[4] or not known['entries-read'] then
  local read = known['entries-read']
  if read then
    redis.call('XGROUP', 'SETID', stream, 'archive', ARGV[8], 'ENTRIESREAD', string.format('%.0f', read + ARGV[11]))
  else
    redis.call('XGROUP', 'SETID', stream, 'archive', ARGV[8])
    local lag = group().lag
    if lag then
      local added = by_name(redis.call('XINFO', 'STREAM', stream))['entries-added']
      redis.call('XGROUP', 'SETID', stream, 'archive', ARGV[8], 'ENTRIESREAD', string.format('%.0f', added - lag))
    end
  end
end

if ARGV[10] ~= '' and length > 0 then
  redis.call('XTRIM', stream, 'MINID', '=', ARGV[10])
end
return redis.status_reply('OK')
