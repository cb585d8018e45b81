#!lua flags=no-writes
-- All lists, unless the caller already has them.
--
-- KEYS   1 version counter · 2 entries hash
-- ARGV   1 version the caller has, decimal
-- REPLY  array: version; the entries ("<list> NUL <value>" each), or nil when the caller has this version
-- COST   O(1) while nothing changed, else O(entries)
local version = redis.call('GET', KEYS[1]) or '0'
if version == ARGV[1] then
  return {version, false}
end
return {version, redis.call('HKEYS', KEYS[2])}
