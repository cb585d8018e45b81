#!lua flags=no-writes
-- Everything one decision needs to know of one customer, as one state.
--
-- KEYS   1 meta hash · 2 event log · 3 marker of the partition · 4 decision frame (optional), all of one partition
-- ARGV   none
-- REPLY  array: meta as field, value, field, value ...; the log or nil; the frame or nil; and only of a customer that
--        nothing is known of, the marker or nil
-- COST   O(fields of the hash) + three copies of the log; known customers are read without (store/held_customers.py)
local meta = redis.call('HGETALL', KEYS[1])
local log = redis.call('GET', KEYS[2])
local frame = KEYS[4] and redis.call('GET', KEYS[4]) or false
if #meta == 0 then
  return {meta, log, frame, redis.call('GET', KEYS[3])}
end
return {meta, log, frame}
