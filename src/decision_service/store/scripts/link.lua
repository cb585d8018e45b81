#!lua
-- Append records to entity logs, each record once.
--
-- KEYS   the logs, all of one partition where the server is a cluster
-- ARGV   1 most records a log keeps · 2 ms after which a log that nothing is added to is forgotten
--        then for each log: header of an empty log · records to append. An instant of trimming in that header says
--        what is left out on purpose: the stored log is marked as trimmed through it, too
-- REPLY  array, four numbers a log: appended, already there, older than what the log has forgotten, refused because
--        what is stored under the key is no log of this grain (then nothing of that log is touched)
-- COST   O(bytes of the logs): 3 us for a short log, 20 us for a full one; a trim is due once in a quarter of a log
--
-- A record is known by its key and its customer (words 1 and 6): event ids of two customers may be equal. One that
-- reaches back to what was trimmed is not taken, for whether it is among the trimmed nobody can tell any more; windows
-- that reach back so far are incomplete anyway. So a record that is delivered twice, however late, is there once.
--
-- Only instants and counts become Lua numbers, all far below 2^53 (TRIMMED_NOTHING is a power of two, hence exact).
-- Everything that can fail is asked before the first write of its log; a log of the wrong type stops no other.
local HEADER, RECORD = 64, 64
local INDEXED = 8 -- with more records than this at once the log's keys are indexed instead of searched
local most, kept_ms = tonumber(ARGV[1]), ARGV[2]
local slack = math.floor(most / 4)

local function instant(bytes, at)
  return (struct.unpack('<i8', bytes, at))
end

local function identity(bytes, at)
  return bytes:sub(at + 8, at + 15) .. bytes:sub(at + 48, at + 55)
end

local function search(log, record)
  local key, customer = record:sub(9, 16), record:sub(49, 56)
  local at = log:find(key, HEADER + 1, true)
  while at do
    if at % RECORD == 9 and log:sub(at + 40, at + 47) == customer then
      return true
    end
    at = log:find(key, at + 1, true)
  end
  return false
end

local function indexed(log)
  local known = {}
  for at = HEADER + 1, #log, RECORD do
    known[identity(log, at)] = true
  end
  return known
end

local function trimmed(log)
  local gone = (#log - HEADER) / RECORD - most
  local through = instant(log, 17)
  for at = HEADER + 1, gone * RECORD + HEADER, RECORD do
    through = math.max(through, instant(log, at))
  end
  local base = instant(log, 9) + gone
  return log:sub(1, 8) .. struct.pack('<i8i8', base, through) .. log:sub(25, HEADER)
    .. log:sub(HEADER + gone * RECORD + 1)
end

local function append(name, empty, records)
  local log = redis.pcall('GET', name)
  if type(log) == 'table' then
    return 0, 0, 0, #records / RECORD
  end
  local stored = log
  log = log or empty
  if #log % RECORD ~= 0 or #records % RECORD ~= 0 or log:sub(1, 8) ~= empty:sub(1, 8)
    or log:sub(25, 32) ~= empty:sub(25, 32) then
    return 0, 0, 0, math.floor(#records / RECORD)
  end
  local through = instant(log, 17)
  local known = #records > INDEXED * RECORD and indexed(log) or {}
  local all_known = #records > INDEXED * RECORD
  local fresh, there, old = {}, 0, 0
  for at = 1, #records, RECORD do
    local record = records:sub(at, at + RECORD - 1)
    local id = identity(records, at)
    if known[id] or (not all_known and search(log, record)) then
      there = there + 1
    elseif instant(record, 1) <= through then
      old = old + 1
    else
      known[id] = true
      fresh[#fresh + 1] = record
    end
  end
  local left_out = instant(empty, 17)
  if left_out > through then
    log = log:sub(1, 16) .. struct.pack('<i8', left_out) .. log:sub(25)
  end
  if #fresh > 0 or left_out > through then
    local added = table.concat(fresh)
    if (#log + #added - HEADER) / RECORD > most + slack then
      redis.call('SET', name, trimmed(log .. added), 'PX', kept_ms)
    elseif stored and left_out <= through then
      redis.call('APPEND', name, added)
      redis.call('PEXPIRE', name, kept_ms)
    else
      redis.call('SET', name, log .. added, 'PX', kept_ms)
    end
  end
  return #fresh, there, old, 0
end

local told = {}
for i, name in ipairs(KEYS) do
  local appended, there, old, refused = append(name, ARGV[2 * i + 1], ARGV[2 * i + 2])
  told[4 * i - 3], told[4 * i - 2], told[4 * i - 1], told[4 * i] = appended, there, old, refused
end
return told
