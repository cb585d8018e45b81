#!lua flags=no-writes
-- How much a place's stream holds, and how much of it is not archived.
--
-- KEYS   1 stream · 2 head
-- ARGV   1 most entries that are counted one by one
-- REPLY  array: entries, id of the first or nil, entries that wait (at most so many), id of the first of them or nil
-- COST   O(1) and two entries; where the group does not know its lag, O(entries counted)
local stream, head = KEYS[1], KEYS[2]
local length = redis.call('XLEN', stream)
if length == 0 then
  return {0, false, 0, false}
end
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1]
local last = redis.call('HGET', head, 'last')
if not last or last == '' then
  return {length, first, length, first}
end
local waiting = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
if not waiting then
  return {length, first, 0, false}
end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local named = {}
  for i = 1, #group, 2 do
    named[group[i]] = group[i + 1]
  end
  if named.name == 'archive' and named['last-delivered-id'] == last and named.lag then
    return {length, first, named.lag, waiting[1]}
  end
end
local counted = #redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', ARGV[1])
return {length, first, counted < tonumber(ARGV[1]) and counted or length, waiting[1]}
