#!lua
-- Keep what shadows (scorecards, or a policy) said of decisions that are kept already, beside them.
--
-- KEYS   for each decision: 1 what was said · 2 outbox stream, all of one partition where the server is a cluster
-- ARGV   1 kind of the outbox entries · 2 their field that holds what was said · for each decision: its id and that
-- REPLY  how many were new: what is kept already stays, and has its outbox entry
-- COST   O(decisions)
for i = 2, #KEYS, 2 do
  redis.call('XLEN', KEYS[i])
end
local new = 0
for i = 1, #KEYS, 2 do
  if redis.call('SET', KEYS[i], ARGV[i + 3], 'NX') then
    redis.call('XADD', KEYS[i + 1], '*', 'kind', ARGV[1], 'id', ARGV[i + 2], ARGV[2], ARGV[i + 3])
    new = new + 1
  end
end
return new
