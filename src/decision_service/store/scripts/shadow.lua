#!lua
-- Keep what shadow scorecards scored, beside decisions that are kept already.
--
-- KEYS   for each decision: 1 scores of its shadows · 2 outbox stream, all of one partition where the server is a
--        cluster
-- ARGV   for each decision: 1 its id · 2 the scores
-- REPLY  how many were new: what is kept already stays, and has its outbox entry
-- COST   O(decisions)
for i = 2, #KEYS, 2 do
  redis.call('XLEN', KEYS[i])
end
local new = 0
for i = 1, #KEYS, 2 do
  if redis.call('SET', KEYS[i], ARGV[i + 1], 'NX') then
    redis.call('XADD', KEYS[i + 1], '*', 'kind', 'shadow', 'id', ARGV[i], 'scores', ARGV[i + 1])
    new = new + 1
  end
end
return new
