#!lua
-- Forget waiting links that have been appended.
--
-- KEYS   hashes of waiting links, all of one partition where the server is a cluster
-- ARGV   for each hash: n, then n fields
-- REPLY  how many were still there
-- COST   O(fields)
for _, name in ipairs(KEYS) do
  redis.call('HLEN', name)
end
local gone, at = 0, 1
for _, name in ipairs(KEYS) do
  local last = at + tonumber(ARGV[at])
  gone = gone + redis.call('HDEL', name, unpack(ARGV, at + 1, last))
  at = last + 1
end
return gone
