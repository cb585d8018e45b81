#!lua flags=no-writes
-- Everything one decision needs to know of one customer, as one state.
--
-- KEYS   1 meta hash · 2 event log · 3 decision frame (optional), all of one partition
-- ARGV   none
-- REPLY  array: meta as field, value, field, value ...; the log or nil; the frame or nil
-- COST   O(fields of the hash) + bytes of the log; 2 to 3 commands
return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('GET', KEYS[2]),
  KEYS[3] and redis.call('GET', KEYS[3]) or false,
}
